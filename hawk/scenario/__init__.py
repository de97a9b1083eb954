"""Scripted outages: scenario files, the run of one in virtual or real time, and the verdict over its journal.

Public: `hawk.scenario.journal` (what a run wrote down, and its verdict), `hawk.scenario.reading.read_scenario`,
`hawk.scenario.simulation.simulate` and `hawk.scenario.judging.judge`. Needs the extra `[cli]` for files in YAML.
"""
