"""What all processes of an instance agree on: names, the directory region, wire frames and payloads."""
