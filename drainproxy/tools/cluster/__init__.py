"""A rolling update in miniature: kubelet, endpoints, balancer; and the demo that shows one."""
