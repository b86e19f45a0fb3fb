"""Who answers a stage's requests: an endpoint, a truth file, or measured facts."""
