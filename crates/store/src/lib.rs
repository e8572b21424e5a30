//! Revisioned keys with transactions, leases and watches: etcd's v3 model.
