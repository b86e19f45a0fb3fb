"""Quality rules: small pure functions that say of a row what is wrong with it, and why."""
