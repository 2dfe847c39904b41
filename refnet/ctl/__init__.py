"""refnetctl: resources, IPAM and sessions at a glance, in calicoctl's manner."""
