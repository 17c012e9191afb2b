"""Who may do what: principals, tokens, roles and the policy that decides."""
