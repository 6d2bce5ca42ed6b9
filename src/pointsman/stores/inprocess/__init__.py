"""What stores share whose coordinators are all in one process: membership, leases, the board, hints, the clock."""
