"""A study of many runs: its file becomes points, points become trials, trials are trained and become results."""
