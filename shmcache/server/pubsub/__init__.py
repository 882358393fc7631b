"""What the hub decides, apart from its sockets: `table` knows who listens, `replay` keeps messages for late
subscribers, `core` numbers and sends, `commands` answers requests, `keyevents` makes messages of the write
log,
`link` joins the hub to the one of another instance.
"""
