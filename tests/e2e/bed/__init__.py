"""A real Kubernetes on one Linux machine, without Docker and without a registry: `make cluster`, `make cluster-down`.

Each machine of the cluster is a process tree in namespaces of its own: one for the control plane, one for each node
with its own kubelet, containerd and kube-proxy. The programs are built from Go modules and cached.

The files, from what is decided to what is done:

    layout, network, configs, manifests, recipes, pki, oci    pure: names, addresses, commands, files, bytes
    machine, provisioner                                      programs of the machines, standard library only
    host, builds, cgroups, machines, images                   the host: commands, compiler, processes, containers
    cluster                                                   the bed: up, down, and its faults
    __main__                                                  the same from a shell

Laws: every name, address and cgroup starts with the bed's name, so that `down` needs no record to find what to remove;
no file of the host is written but below the cache and the state directory; SIGKILL of one process ends a machine.

Start reading at cluster.py, then configs.py, then machine.py. How to use it: docs/testing-on-kubernetes.md.
"""
