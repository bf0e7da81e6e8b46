"""The gateway: Envoy, told over ADS (state of the world) what to listen on, where to send and how to split.

`control_plane` is what the router uses. The rest builds Envoy's resources as pure functions of options and of the
routing table. Nothing here is on the path of a request: an Envoy that has its configuration keeps it without us.
"""
