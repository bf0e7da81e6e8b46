"""Batch: predictions for every row of a file.

It cuts the input into chunks, sends their rows to the batcher at low priority, writes each chunk's predictions to a
part file, and puts the parts together to the output when all are there. It is no scheduler and no query engine, and it
is not on the path of anybody's online prediction.

Its one invariant: the output appears whole or not at all, and in it every row of the input is predicted exactly once or
named among the failed rows exactly once, whatever died on the way.
"""
