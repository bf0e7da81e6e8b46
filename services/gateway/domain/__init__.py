"""What is kept of a gateway's configuration and what is answered from it. Pure."""
