"""Side by side with etcd: `make bench`."""
