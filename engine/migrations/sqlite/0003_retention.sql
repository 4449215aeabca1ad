-- Runs that ended long ago are removed, and their start keys with them.
CREATE INDEX start_keys_of_run ON start_keys (run_id);
