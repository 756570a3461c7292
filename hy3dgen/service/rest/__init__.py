"""HTTP over the service: our own routes, those of the reference, and the guards before both. Needs the extra 'api'."""
