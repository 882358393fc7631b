"""Users of the RESP port and what they may do: rules, the file they stand in, the checks."""
