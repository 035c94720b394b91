"""Does a deeper network learn better? Networks of growing depth trained alike, on one page side by side."""
