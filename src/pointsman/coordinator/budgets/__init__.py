"""Budgets that many runs share: a coordinator spends from tranches, and the ledger of each budget grants them."""
