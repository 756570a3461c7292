"""A queue of jobs and the workers that do them, under the REST API, the web page and whatever else serves people."""
