"""All families of metrics. Names follow Prometheus: one prefix, base units, `_total` for what only rises."""

from outlast.api.metrics.exposition import Family, Kind

_GAUGE, _COUNTER, _HISTOGRAM = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM

# ---- the daemon

BUILD_INFO = Family("outlast_build_info", Kind.INFO, "Version of the daemon.")
CPU = Family("process_cpu_seconds_total", _COUNTER, "Processor time of the daemon.")
VIRTUAL_MEMORY = Family("process_virtual_memory_bytes", _GAUGE, "Address space of the daemon.")
RESIDENT_MEMORY = Family("process_resident_memory_bytes", _GAUGE, "Resident memory of the daemon.")
START_TIME = Family("process_start_time_seconds", _GAUGE, "Start of the daemon, since the epoch.")
THREADS = Family("process_threads", _GAUGE, "Threads of the daemon.")
OPEN_FDS = Family("process_open_fds", _GAUGE, "Open descriptors of the daemon.")
MAX_FDS = Family("process_max_fds", _GAUGE, "Descriptors that the daemon may have open.")
HTTP_REQUESTS = Family("outlast_http_requests_total", _COUNTER, "Answers to requests with the token, by this daemon.")
HTTP_DURATION = Family(
    "outlast_http_request_duration_seconds", _HISTOGRAM, "Time from a request to the beginning of its answer."
)
FOLLOWERS = Family("outlast_followers", _GAUGE, "Clients that follow output or events now.")

# ---- the store

STORE_UP = Family("outlast_store_up", _GAUGE, "1 if the store can be read and commits, else 0.")
COMMITS = Family("outlast_commits_total", _COUNTER, "Commits of this daemon that succeeded.")
COMMIT_ERRORS = Family("outlast_commit_errors_total", _COUNTER, "Commits of this daemon that failed.")
COMMIT_DURATION = Family("outlast_commit_duration_seconds", _HISTOGRAM, "Duration of a commit.")
STORE_BYTES = Family("outlast_store_bytes", _GAUGE, "Bytes on disk: database, its log, and output in the spool.")
STORE_FREE = Family("outlast_store_free_bytes", _GAUGE, "Part of the database that is free for new output.")
FILESYSTEM_FREE = Family("outlast_filesystem_free_bytes", _GAUGE, "Space that is left on the file system of the store.")
RETENTION_BYTES = Family(
    "outlast_retention_removed_bytes_total", _COUNTER, "Bytes of output on disk that retention has deleted."
)
RETENTION_PROCESSES = Family(
    "outlast_retention_removed_processes_total", _COUNTER, "Ended processes that retention has deleted."
)
OLDEST_OUTPUT = Family(
    "outlast_oldest_output_timestamp_seconds", _GAUGE, "When the oldest stored output was read, since the epoch."
)

# ---- the shim

SHIM_UP = Family("outlast_shim_up", _GAUGE, "1 if the shim answers, else 0.")
SHIM_RESTARTS = Family(
    "outlast_shim_restarts_total",
    _COUNTER,
    "How often this daemon has met another shim in the place of one that ended.",
)
SHIM_BUFFERED = Family("outlast_shim_buffered_bytes", _GAUGE, "Output that the shim holds because it is not stored.")
BLOCKED = Family(
    "outlast_blocked_processes", _GAUGE, "Processes whose output is not read now: they wait once their pipes are full."
)

# ---- processes and output, since the store was made

PROCESSES = Family("outlast_processes", _GAUGE, "Processes in the store, by what they do now.")
STARTS = Family("outlast_process_starts_total", _COUNTER, "First starts; failed ones were recorded before.")
RESTARTS = Family("outlast_process_restarts_total", _COUNTER, "Later runs of managed processes.")
ENDS = Family("outlast_process_ends_total", _COUNTER, "Ends of runs.")
OUTPUT_BYTES = Family("outlast_output_bytes_total", _COUNTER, "Bytes of output that were stored.")
OUTPUT_LINES = Family("outlast_output_lines_total", _COUNTER, "Lines of output that were stored.")
GAPS = Family("outlast_output_gaps_total", _COUNTER, "Places where output is missing.")
CAPTURE_DELAY = Family(
    "outlast_capture_delay_seconds", _HISTOGRAM, "Time from reading a piece of output to its commit, by this daemon."
)
UNSTORED = Family("outlast_unstored_bytes", _GAUGE, "Output that the daemon knows of and that is not stored.")

# ---- live processes with a name

DROPPED_SERIES = Family(
    "outlast_metrics_dropped_series", _GAUGE, "Series of named processes that are left out because there are too many."
)
UP = Family("outlast_process_up", _GAUGE, "1 if the process runs, 0 while it waits for its next start.")
STARTED = Family("outlast_process_start_time_seconds", _GAUGE, "Start of the current run, since the epoch.")
OWN_RUNS = Family("outlast_process_runs_total", _COUNTER, "Runs of the process: 1, and one for each restart.")
HEALTHY = Family("outlast_process_healthy", _GAUGE, "1 if the health check of the process succeeds, else 0.")
OWN_CPU = Family("outlast_process_cpu_seconds_total", _COUNTER, "Processor time of the tree in its current run.")
OWN_MEMORY = Family("outlast_process_resident_memory_bytes", _GAUGE, "Resident memory of the tree.")
OWN_THREADS = Family("outlast_process_threads", _GAUGE, "Threads of the tree.")
OWN_FDS = Family("outlast_process_open_fds", _GAUGE, "Open descriptors of the tree.")
OWN_OUTPUT = Family("outlast_process_output_bytes_total", _COUNTER, "Bytes that the process has written, all runs.")
LAST_OUTPUT = Family(
    "outlast_process_last_output_timestamp_seconds", _GAUGE, "When the last output was read, since the epoch."
)
LAST_EXIT = Family(
    "outlast_process_last_exit_code", _GAUGE, "Exit code of the last run that ended; after a signal, 128 + its number."
)

ALL = tuple(value for value in globals().values() if isinstance(value, Family))
"""Every family, in the order of this page."""
