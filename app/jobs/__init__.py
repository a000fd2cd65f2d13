"""Background work: delivery of tasks to workers, execution and retries of tasks, and the sweeper. What a task does is
in `app.media`."""
