#!lua
-- No keys, and nothing is written. But it does not say `no-writes`, so Redis refuses it where it would refuse a write: a replica, no memory
-- left under noeviction, a disk that cannot be saved to, too few replicas.
return 1
