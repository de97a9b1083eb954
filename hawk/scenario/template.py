"""The scenario file that `hawk scenario new` prints: small, complete, and explained."""

TEMPLATE = """\
# yaml-language-server: $schema=schema.v1.json
# Save it, and run it: hawk scenario run FILE
hawk: 1
name: my_outage
about: What happens, in the words of whoever was called at night.
seed: 1                       # everything drawn at random comes from it
duration: 5m                  # virtual: seconds
client: {max_retries: null, max_retry_delay: 30s, message_queue_size: 1000}   # hawk's settings; outbox: durable for a disk
traffic:
  - {pub: "site/{i}/reading", clients: 3, rate: 1/s, qos: 1, size: 100B}      # or 1/10s, poisson 2/h, burst 100 every 1m
  - {sub: "site/#", qos: 1}
timeline:
  - {at: 1m, fault: broker.down, for: 30s, as: outage}
  - {at: 3m, fault: link.blackhole, for: 20s, as: silent}
expect:
  - lost == 0
  - reordered == 0
  - recovery(outage) <= 31s
  - queue.depth.max <= 200
  - state == CONNECTED at end
"""
