"""What a process needs around hawk: settings from files and the environment. Needs the extra `[cli]`."""
