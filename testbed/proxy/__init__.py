"""Service proxies of the nodes' own kernels, to compare with OpenFlow: kube-proxy's modes iptables, nftables, ipvs."""
