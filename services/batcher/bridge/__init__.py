"""How requests come from Envoy to Python and answers go back: a dynamic module in C (`native/`), and its host.

It hands over whole requests, many at a time, and knows nothing of what they ask. It is not where protocols are spoken
(the faces do that). Its one invariant: each request is answered once, or its caller is gone, or its stream is reset.
"""
