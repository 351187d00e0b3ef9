#!/bin/sh
# Rules as iptables makes them, those of Kubernetes, Docker, Istio and Calico among them.
set -e
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
iptables -A INPUT -p tcp --dport 22:80 -j ACCEPT
iptables -A INPUT -p tcp ! --sport 22 -j DROP
iptables -A INPUT -p udp --dport 53 -m comment --comment "dns here" -j ACCEPT
iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -m state --state NEW -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT
iptables -A INPUT -p tcp -m multiport --sports 80,443:500 -j ACCEPT
iptables -A INPUT -s 10.0.0.0/8 -i eth0 -j DROP
iptables -A INPUT -m mark --mark 0x4000/0x4000 -j ACCEPT
iptables -A INPUT -m limit --limit 5/min --limit-burst 10 -j LOG --log-prefix "x: " --log-level 4
iptables -A INPUT -j REJECT
iptables -A INPUT -p tcp -j REJECT --reject-with tcp-reset
iptables -A INPUT -p icmp --icmp-type echo-request -j ACCEPT
iptables -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
iptables -A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT
iptables -A INPUT -p tcp --tcp-flags SYN,ACK SYN -j ACCEPT
iptables -A INPUT -p tcp --syn -j ACCEPT
iptables -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
iptables -A OUTPUT -m owner --uid-owner 1000 -j DROP
iptables -A INPUT -m mac --mac-source 00:11:22:33:44:55 -j ACCEPT
iptables -A INPUT -m recent --name x --set
iptables -A INPUT -m iprange --src-range 1.1.1.1-1.1.1.9 -j DROP
iptables -A INPUT -m ttl --ttl-eq 5 -j DROP
iptables -A INPUT -m length --length 5:10 -j DROP
iptables -A INPUT -m pkttype --pkt-type broadcast -j DROP
iptables -A INPUT -m connlimit --connlimit-above 5 -j DROP
iptables -A INPUT -m string --string abc --algo bm -j DROP
iptables -A INPUT -m dscp --dscp 5 -j DROP
iptables -A INPUT -m connmark --mark 5 -j DROP
iptables -A INPUT -m cpu --cpu 1 -j DROP
iptables -A INPUT -m esp -p esp --espspi 5 -j DROP
iptables -A INPUT -j NFLOG --nflog-group 5
iptables -t mangle -A PREROUTING -j MARK --set-mark 5
iptables -t mangle -A PREROUTING -j MARK --set-xmark 0x1/0xff
iptables -t mangle -A PREROUTING -j CONNMARK --save-mark
iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark
iptables -t mangle -A POSTROUTING -j DSCP --set-dscp 5
iptables -t mangle -A POSTROUTING -j CLASSIFY --set-class 1:5
iptables -t mangle -A PREROUTING -j TTL --ttl-set 5
iptables -t raw -A PREROUTING -j CT --notrack
iptables -t raw -A PREROUTING -j NOTRACK
iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
iptables -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE --random-fully
iptables -t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4
iptables -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080
iptables -t nat -A PREROUTING -j DNAT --to-destination 10.0.0.1
iptables -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080
iptables -t nat -N KUBE-SERVICES
iptables -t nat -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
iptables -N SUB
iptables -A INPUT -j SUB
iptables -A INPUT -g SUB
iptables -A INPUT -d 1.1.1.1/32 -p tcp -m comment --comment "default/web" -m tcp --dport 80 -j SUB
ip6tables -A INPUT -p ipv6-icmp --icmpv6-type echo-request -j ACCEPT
ip6tables -A INPUT -s fe80::/10 -j ACCEPT
ip6tables -A INPUT -j REJECT
iptables -A INPUT -m conntrack --ctstate INVALID,UNTRACKED,DNAT -j DROP
iptables -A INPUT -m conntrack ! --ctstate NEW -j DROP
iptables -A INPUT -m conntrack --ctstatus ASSURED -j DROP
iptables -A INPUT -m conntrack --ctdir ORIGINAL -j DROP
iptables -A INPUT -m conntrack --ctstate DNAT -j DROP
iptables -A INPUT -p udp -m multiport ! --dports 80,443 -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 80 -j ACCEPT
iptables -A INPUT -m addrtype ! --src-type LOCAL --limit-iface-in -j ACCEPT
iptables -A INPUT -m statistic --mode nth --every 3 --packet 0 -j ACCEPT
iptables -A INPUT -m statistic --mode random --probability 0.33333333349 -j ACCEPT
iptables -A INPUT -m statistic --mode nth --every 3 --packet 1 -j ACCEPT
iptables -A INPUT -m mac ! --mac-source 00:11:22:33:44:55 -j ACCEPT
iptables -A INPUT -m iprange ! --dst-range 1.1.1.1-1.1.1.9 -j DROP
iptables -A INPUT -m ttl --ttl-lt 5 -j DROP
iptables -A INPUT -m length ! --length 5 -j DROP
iptables -A INPUT -m length --length 5 -j DROP
iptables -A INPUT -m pkttype ! --pkt-type unicast -j DROP
iptables -A INPUT -m dscp ! --dscp 5 -j DROP
iptables -A INPUT -m connmark --mark 5/0xff -j DROP
iptables -A INPUT -m connmark ! --mark 5 -j DROP
iptables -A INPUT -m mark ! --mark 5 -j DROP
iptables -A INPUT -m cpu ! --cpu 1 -j DROP
iptables -A INPUT -p icmp --icmp-type 3/1 -j ACCEPT
iptables -A INPUT -p icmp ! --icmp-type 8 -j ACCEPT
iptables -A INPUT -p icmp --icmp-type any -j ACCEPT
iptables -A INPUT -m limit --limit 5/sec -j NFLOG --nflog-group 5 --nflog-prefix "hey"
iptables -A INPUT -j LOG --log-level debug --log-tcp-sequence --log-ip-options --log-uid
iptables -A INPUT -j LOG
iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited
iptables -A FORWARD -p tcp -j TCPMSS --set-mss 1400
iptables -A OUTPUT -m owner --uid-owner 1000-2000 -j DROP
iptables -t mangle -A PREROUTING -j MARK --or-mark 5
iptables -t mangle -A PREROUTING -j MARK --and-mark 5
iptables -t mangle -A PREROUTING -j MARK --xor-mark 5
iptables -t mangle -A PREROUTING -j MARK --set-xmark 0x5/0x5
iptables -t mangle -A PREROUTING -j CONNMARK --set-mark 5
iptables -t mangle -A PREROUTING -j CONNMARK --set-xmark 0x5/0xf
iptables -t mangle -A PREROUTING -j CONNMARK --save-mark --mask 0xff
iptables -t mangle -A PREROUTING -j CONNMARK --restore-mark --mask 0xff
iptables -t raw -A PREROUTING -j CT --zone 5
iptables -t raw -A PREROUTING -p tcp -j CT --helper ftp
iptables -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2048
iptables -t nat -A POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:1000-2000 --random --persistent
iptables -t nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.5:80-90 --random
iptables -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 80-90 --random
iptables -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 80 --on-ip 127.0.0.1 --tproxy-mark 1/1
iptables -A INPUT -m socket -j ACCEPT
iptables -A INPUT -m socket --transparent -j ACCEPT
iptables -A INPUT -p tcp -m tcpmss --mss 500:600 -j DROP
iptables -A INPUT -m helper --helper ftp -j DROP
iptables -A INPUT -m cgroup --cgroup 5 -j DROP
iptables -A INPUT -p ah -m ah --ahspi 5 -j DROP
iptables -A INPUT -j TEE --gateway 1.1.1.1
iptables -A INPUT -j AUDIT --type accept
ip6tables -A INPUT -p ipv6-icmp --icmpv6-type 1 -j ACCEPT
ip6tables -A INPUT -m hl --hl-eq 5 -j ACCEPT
iptables -A INPUT -m devgroup --src-group 5 -j DROP
iptables -A INPUT -m realm --realm 5 -j DROP
iptables -t nat -N KUBE-MARK-MASQ
iptables -t nat -N KUBE-POSTROUTING
iptables -t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA
iptables -t nat -N KUBE-SEP-BBBBBBBBBBBBBBBB
iptables -t nat -N KUBE-SEP-CCCCCCCCCCCCCCCC
iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
iptables -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
iptables -t nat -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
iptables -t nat -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
iptables -t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m comment --comment "kube-system/kube-dns:dns cluster IP" -m udp --dport 53 -j KUBE-SVC-AAAAAAAAAAAAAAAA
iptables -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA ! -s 10.244.0.0/16 -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
iptables -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -m comment --comment "kube-system/kube-dns:dns -> 10.244.0.2:53" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-BBBBBBBBBBBBBBBB
iptables -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-CCCCCCCCCCCCCCCC
iptables -t nat -A KUBE-SEP-BBBBBBBBBBBBBBBB -s 10.244.0.2/32 -j KUBE-MARK-MASQ
iptables -t nat -A KUBE-SEP-BBBBBBBBBBBBBBBB -p udp -m recent --name KUBE-SEP-BBBBBBBBBBBBBBBB --set
iptables -t nat -A KUBE-SEP-BBBBBBBBBBBBBBBB -p udp -m udp -j DNAT --to-destination 10.244.0.2:53
iptables -t nat -N DOCKER
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A DOCKER -i docker0 -j RETURN
iptables -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -t nat -N ISTIO_REDIRECT
iptables -t nat -N ISTIO_OUTPUT
iptables -t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
iptables -t nat -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
iptables -t nat -A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 1337 -j ISTIO_REDIRECT
iptables -t nat -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
iptables -t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT
iptables -N cali-FORWARD
iptables -A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
iptables -A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000
iptables -A cali-FORWARD -i cali+ -m mark --mark 0x0/0x10000 -j ACCEPT
iptables -A cali-FORWARD -m conntrack --ctstate INVALID -j DROP
