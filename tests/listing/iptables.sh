# Rules as iptables-nft makes them, to be listed: each line a command, run in a network namespace of a test. Every
# extension with a translation, with what it may be asked for; then the rules of programs that are met often.
#
# With `ip` those of IPv4 are made, with `ip6` those of IPv6. Not both at once: nft 1.0.6 shows nothing for some
# targets (MASQUERADE, SNAT, DNAT, REDIRECT, DSCP, TEE) of the family that it lists second.
# shellcheck disable=SC1003,SC2102
set -e
family=$1
i() { [ "$family" != ip ] || iptables-nft "$@" || { echo "iptables-nft $*" >&2; exit 1; }; }
i6() { [ "$family" != ip6 ] || ip6tables-nft "$@" || { echo "ip6tables-nft $*" >&2; exit 1; }; }
i -N SUB
i6 -N SUB

# What is no extension, or none any more.
i -A INPUT -p tcp --dport 22 -j ACCEPT
i -A INPUT -p tcp --dport 22:80 -j ACCEPT
i -A INPUT -p tcp ! --sport 22 -j DROP
i -A INPUT -p tcp --sport 1:1024 ! --dport 5:6 -j DROP
i -A INPUT -p udp --sport 67 --dport 68 -j ACCEPT
i -A INPUT -s 10.0.0.0/8 -i eth0 -j DROP
i -A INPUT ! -s 10.0.0.0/8 ! -i eth+ -j DROP
i -A INPUT -p 17 -f -j DROP
i -A INPUT -p gre -j ACCEPT
i -A INPUT -p 112 -m comment --comment vrrp -j ACCEPT
i -A INPUT -m limit --limit 5/sec -j ACCEPT
i -A INPUT -m limit --limit 7/hour --limit-burst 5 -j ACCEPT
i -A INPUT -p tcp --syn -j ACCEPT
i -A INPUT -p tcp --tcp-flags SYN,ACK SYN -j ACCEPT
i -A INPUT -p tcp ! --tcp-flags ALL NONE -j ACCEPT
i -A INPUT -j SUB
i -A INPUT -g SUB
i -A INPUT

# comment
i -A INPUT -p udp --dport 53 -m comment --comment "dns here" -j ACCEPT
i -A INPUT -d 1.1.1.1/32 -p tcp -m comment --comment "default/web" -m tcp --dport 80 -j SUB
i -A INPUT -m comment --comment "a" -m comment --comment "b"

# conntrack, state
i -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
i -A INPUT -m state --state NEW -j ACCEPT
i -A INPUT -m state --state NEW,INVALID,ESTABLISHED,RELATED,UNTRACKED -j ACCEPT
i -A INPUT -m state ! --state NEW,INVALID -j ACCEPT
i -A INPUT -m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED -j DROP
i -A INPUT -m conntrack ! --ctstate NEW -j DROP
i -A INPUT -m conntrack ! --ctstate NEW,RELATED -j DROP
i -A INPUT -m conntrack --ctstate DNAT -j DROP
i -A INPUT -m conntrack --ctstate SNAT,DNAT -j DROP
i -A INPUT -m conntrack --ctstate INVALID,UNTRACKED,DNAT -j DROP
i -A INPUT -m conntrack ! --ctstate DNAT -j DROP
i -A INPUT -m conntrack --ctstatus ASSURED -j DROP
i -A INPUT -m conntrack --ctstatus NONE -j DROP
i -A INPUT -m conntrack ! --ctstatus ASSURED,SEEN_REPLY,CONFIRMED,EXPECTED -j DROP
i -A INPUT -m conntrack --ctorigdst 10.0.0.1 -j DROP
i -A INPUT -m conntrack --ctorigsrc 10.0.0.0/8 ! --ctreplsrc 10.1.0.0/16 -j DROP
i -A INPUT -m conntrack --ctrepldst 10.1.0.1 --ctorigsrc 0.0.0.0/1 -j DROP
i -A INPUT -m conntrack --ctorigsrc 10.0.0.1/255.0.255.0 -j DROP
i -A INPUT -m conntrack --ctorigdstport 80 --ctproto 6 -j DROP
i -A INPUT -m conntrack --ctorigsrcport 80:90 --ctreplsrcport 5 --ctrepldstport 6:7 --ctproto udp -j DROP
i -A INPUT -m conntrack ! --ctorigdstport 80 ! --ctproto 6 -j DROP
i -A INPUT -m conntrack --ctproto 6 ! --ctorigsrcport 80:90 -j DROP
i -A INPUT -m conntrack --ctexpire 30 -j DROP
i -A INPUT -m conntrack --ctexpire 30:60 -j DROP
i -A INPUT -m conntrack ! --ctexpire 30:60 -j DROP
i -A INPUT -m conntrack --ctdir ORIGINAL -j DROP
i -A INPUT -m conntrack --ctdir REPLY -j DROP
i -A INPUT -m conntrack --ctstate NEW --ctstatus ASSURED --ctproto tcp --ctdir REPLY --ctexpire 5 -j DROP
i6 -A INPUT -m conntrack --ctorigsrc fd00::/64 ! --ctorigdst fd00::1 -j DROP
i6 -A INPUT -m conntrack --ctreplsrc ::/1 -j DROP
i6 -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT

# multiport
i -A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT
i -A INPUT -p tcp -m multiport --sports 80,443:500 -j ACCEPT
i -A INPUT -p tcp -m multiport --dports 80 -j ACCEPT
i -A INPUT -p tcp -m multiport --dports 80:90 -j ACCEPT
i -A INPUT -p tcp -m multiport ! --dports 80 -j ACCEPT
i -A INPUT -p udp -m multiport ! --dports 80,443 -j ACCEPT
i -A INPUT -p tcp -m multiport --ports 80,443 -j ACCEPT
i -A INPUT -p tcp -m multiport --ports 80 -j ACCEPT
i -A INPUT -p tcp -m multiport ! --ports 80,90:95,100 -j ACCEPT
i -A INPUT -p sctp -m multiport --dports 80,443 -j ACCEPT
i -A INPUT -p dccp -m multiport --dports 80,443 -j ACCEPT
i -A INPUT -p udplite -m multiport --dports 80,443 -j ACCEPT
i6 -A INPUT -p tcp -m multiport --dports 80,443 -j ACCEPT
i6 -A INPUT -p udp -m multiport --ports 80,90:95 -j ACCEPT

# addrtype
i -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
i -A INPUT -m addrtype ! --src-type LOCAL -j ACCEPT
i -A INPUT -m addrtype --src-type LOCAL ! --dst-type BROADCAST,MULTICAST -j ACCEPT
i -A INPUT -m addrtype --dst-type BROADCAST,MULTICAST,ANYCAST,UNICAST -j ACCEPT
i -A INPUT -m addrtype ! --src-type LOCAL --limit-iface-in -j ACCEPT
i -A OUTPUT -m addrtype --src-type LOCAL --dst-type UNSPEC --limit-iface-out -j ACCEPT
i -A INPUT -m addrtype --src-type BLACKHOLE,UNREACHABLE,PROHIBIT,THROW,NAT,XRESOLVE -j ACCEPT
i6 -A INPUT -m addrtype --dst-type LOCAL -j ACCEPT

# statistic
i -A INPUT -m statistic --mode random --probability 0.5 -j ACCEPT
i -A INPUT -m statistic --mode random --probability 0.33333333349 -j ACCEPT
i -A INPUT -m statistic --mode random ! --probability 0.2 -j ACCEPT
i -A INPUT -m statistic --mode random --probability 1 -j ACCEPT
i -A INPUT -m statistic --mode random --probability 0 -j ACCEPT
i -A INPUT -m statistic --mode nth --every 3 --packet 0 -j ACCEPT
i -A INPUT -m statistic --mode nth --every 3 --packet 1 -j ACCEPT
i -A INPUT -m statistic --mode nth ! --every 3 --packet 2 -j ACCEPT

# mac, iprange, ttl, hl, length, pkttype
i -A INPUT -m mac --mac-source 00:11:22:33:44:55 -j ACCEPT
i -A INPUT -m mac ! --mac-source aa:11:22:33:44:55 -j ACCEPT
i -A INPUT -m iprange --src-range 1.1.1.1-1.1.1.9 -j DROP
i -A INPUT -m iprange ! --dst-range 1.1.1.1-1.1.1.9 -j DROP
i -A INPUT -m iprange ! --src-range 1.1.1.1-1.1.1.9 --dst-range 2.2.2.2-3.3.3.3 -j DROP
i -A INPUT -m iprange --src-range 1.1.1.1 -j DROP
i6 -A INPUT -m iprange --src-range fd00::1-fd00::9 ! --dst-range ::1-::2 -j DROP
i -A INPUT -m ttl --ttl-eq 5 -j DROP
i -A INPUT -m ttl ! --ttl-eq 5 -j DROP
i -A INPUT -m ttl --ttl-lt 5 -j DROP
i -A INPUT -m ttl --ttl-gt 5 -j DROP
i6 -A INPUT -m hl --hl-eq 5 -j ACCEPT
i6 -A INPUT -m hl ! --hl-eq 5 -j ACCEPT
i6 -A INPUT -m hl --hl-lt 5 -j ACCEPT
i6 -A INPUT -m hl --hl-gt 5 -j ACCEPT
i -A INPUT -m length --length 5:10 -j DROP
i -A INPUT -m length --length 5 -j DROP
i -A INPUT -m length ! --length 5 -j DROP
i -A INPUT -m length ! --length :5 -j DROP
i -A INPUT -m pkttype --pkt-type broadcast -j DROP
i -A INPUT -m pkttype --pkt-type multicast -j DROP
i -A INPUT -m pkttype ! --pkt-type unicast -j DROP

# hashlimit
i -A INPUT -m hashlimit --hashlimit-above 5/sec --hashlimit-mode srcip --hashlimit-name hl -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 5/min --hashlimit-burst 3 --hashlimit-mode srcip,dstip --hashlimit-name hl2 -j DROP
i -A INPUT -p tcp -m hashlimit --hashlimit-upto 100/hour --hashlimit-mode srcip,dstip,srcport,dstport --hashlimit-name hl3 -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 20kb/s --hashlimit-mode srcip --hashlimit-name hl4 -j DROP
i -A INPUT -m hashlimit --hashlimit-above 512kb/s --hashlimit-burst 1mb --hashlimit-mode dstip --hashlimit-name hl5 -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-name hl7 --hashlimit-htable-expire 60000 --hashlimit-mode dstip --hashlimit-dstmask 20 -j DROP
i -A INPUT -p udp -m hashlimit --hashlimit-upto 3/sec --hashlimit-name hl8 --hashlimit-mode dstport -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 7/min --hashlimit-burst 5 --hashlimit-name hl9 --hashlimit-htable-expire 10000 --hashlimit-mode srcip -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 7/min --hashlimit-burst 7 --hashlimit-name hl10 --hashlimit-htable-expire 100000 --hashlimit-mode srcip -j DROP
i -A INPUT -m hashlimit --hashlimit-upto 11/sec --hashlimit-name hl11 -j DROP
i6 -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-mode srcip --hashlimit-srcmask 64 --hashlimit-name hl61 -j DROP
i6 -A INPUT -p tcp -m hashlimit --hashlimit-above 5/sec --hashlimit-mode srcip,dstport --hashlimit-name hl62 -j DROP

# time
i -A INPUT -m time --timestart 10:00 --timestop 11:00 -j DROP
i -A INPUT -m time --timestart 10:00 -j DROP
i -A INPUT -m time --timestop 10:00:05 -j DROP
i -A INPUT -m time --weekdays Mon,Tue,Sun -j DROP
i -A INPUT -m time ! --weekdays Sat -j DROP
i -A INPUT -m time --weekdays Fri --timestart 08:30 --timestop 17:15:30 -j DROP
i -A INPUT -m time --datestart 2026-01-02T03:04:05 --datestop 2027-01-02 -j DROP
i -A INPUT -m time --datestart 2026-01-02 -j DROP
i -A INPUT -m time --datestop 2026-02-28T10:00:00 --weekdays Wed,Thu -j DROP
i -A INPUT -m time --monthdays 1,5,30 -j DROP
i -A INPUT -m time --timestart 22:00 --timestop 06:00 --contiguous --datestart 2026-01-02 -j DROP
i -A INPUT -m time --kerneltz --timestart 22:00 --timestop 23:00 -j DROP

# dscp, connmark, mark, cpu, esp, ah
i -A INPUT -m dscp --dscp 5 -j DROP
i -A INPUT -m dscp ! --dscp 5 -j DROP
i -A INPUT -m dscp --dscp-class EF -j DROP
i6 -A INPUT -m dscp --dscp 0x20 -j DROP
i -A INPUT -m connmark --mark 5 -j DROP
i -A INPUT -m connmark --mark 5/0xff -j DROP
i -A INPUT -m connmark ! --mark 5 -j DROP
i -A INPUT -m connmark ! --mark 0x10/0xff -j DROP
i -A INPUT -m connmark --mark 0/0xff -j DROP
i -A INPUT -m connmark ! --mark 0/0xff -j DROP
i -A INPUT -m mark --mark 0x4000/0x4000 -j ACCEPT
i -A INPUT -m mark ! --mark 5 -j DROP
i -A INPUT -m mark --mark 0 -j DROP
i -A INPUT -m cpu --cpu 1 -j DROP
i -A INPUT -m cpu ! --cpu 1 -j DROP
i -A INPUT -p esp -m esp --espspi 5 -j DROP
i -A INPUT -p esp -m esp --espspi 5:100 -j DROP
i -A INPUT -p esp -m esp ! --espspi 5:100 -j DROP
i -A INPUT -p esp -m esp ! --espspi 0 -j DROP
i -A INPUT -p esp -m esp -j DROP
i -A INPUT -p ah -m ah --ahspi 5 -j DROP
i -A INPUT -p ah -m ah --ahspi 5:7 -j DROP
i -A INPUT -p ah -m ah ! --ahspi 5:7 -j DROP
i -A INPUT -p ah -m ah -j DROP
i6 -A INPUT -m ah --ahspi 5 -j DROP
i6 -A INPUT -m ah --ahspi 5:10 --ahlen 7 --ahres -j DROP
i6 -A INPUT -m ah ! --ahspi 5 ! --ahlen 8 -j DROP
i6 -A INPUT -m ah -j DROP

# icmp, icmp6
i -A INPUT -p icmp --icmp-type echo-request -j ACCEPT
i -A INPUT -p icmp --icmp-type echo-reply -j ACCEPT
i -A INPUT -p icmp --icmp-type 3 -j ACCEPT
i -A INPUT -p icmp --icmp-type 3/1 -j ACCEPT
i -A INPUT -p icmp --icmp-type fragmentation-needed -j ACCEPT
i -A INPUT -p icmp ! --icmp-type 8 -j ACCEPT
i -A INPUT -p icmp --icmp-type any -j ACCEPT
i -A INPUT -p icmp --icmp-type redirect -j ACCEPT
i -A INPUT -p icmp --icmp-type 4 -j ACCEPT
i -A INPUT -p icmp --icmp-type 9 -j ACCEPT
i -A INPUT -p icmp --icmp-type 10 -j ACCEPT
i -A INPUT -p icmp --icmp-type 11 -j ACCEPT
i -A INPUT -p icmp --icmp-type 12 -j ACCEPT
i -A INPUT -p icmp --icmp-type 13 -j ACCEPT
i -A INPUT -p icmp --icmp-type 14 -j ACCEPT
i -A INPUT -p icmp --icmp-type 17 -j ACCEPT
i -A INPUT -p icmp --icmp-type 18 -j ACCEPT
i -A INPUT -p icmp --icmp-type 15 -j ACCEPT
i -A INPUT -p icmp --icmp-type 200 -j ACCEPT
i -A INPUT -p icmp --icmp-type 8/0 -j ACCEPT
i -A INPUT -p icmp --icmp-type ttl-zero-during-transit -j ACCEPT
i -A INPUT -p icmp --icmp-type 11/7 -j ACCEPT
for type in 1 2 3 4 128 129 130 131 132 133 134 135 136 137 5 138 143 255 1/0 3/1 4/2; do
	i6 -A INPUT -p ipv6-icmp --icmpv6-type $type -j ACCEPT
	i6 -A INPUT -p ipv6-icmp ! --icmpv6-type $type -j ACCEPT
done

# owner
i -A OUTPUT -m owner --uid-owner 1000 -j DROP
i -A OUTPUT -m owner ! --uid-owner 1000-2000 -j DROP
i -A OUTPUT -m owner --gid-owner 5 -j DROP
i -A OUTPUT -m owner ! --gid-owner 5-9 -j DROP
i -A OUTPUT -m owner --uid-owner 0 --gid-owner 5 -j DROP
i -A OUTPUT -m owner --socket-exists -j DROP
i -A OUTPUT -m owner ! --socket-exists -j DROP
i6 -A OUTPUT -m owner --uid-owner 7 -j DROP

# tcp, udp, tcpmss, sctp, dccp
i -A INPUT -p tcp -m tcp --tcp-option 5 -j DROP
i -A INPUT -p tcp -m tcp ! --tcp-option 5 -j DROP
i -A INPUT -p tcp -m tcp --dport 5 --tcp-option 5 ! --sport 7:9 --tcp-flags SYN,FIN SYN -j DROP
i -A INPUT -p tcp -m tcp --tcp-option 5 --syn -j DROP
i -A INPUT -p tcp -m tcp --tcp-option 5 ! --syn --dport 7: -j DROP
i -A INPUT -p tcp -m tcp --tcp-option 5 --tcp-flags ALL NONE -j DROP
i -A INPUT -p tcp -m tcp --tcp-option 5 --tcp-flags ALL SYN,PSH,URG -j DROP
i -A INPUT -p tcp -m tcpmss --mss 500:600 -j DROP
i -A INPUT -p tcp -m tcpmss --mss 500 -j DROP
i -A INPUT -p tcp -m tcpmss ! --mss 500 -j DROP
i -A INPUT -p tcp -m tcpmss ! --mss 500:501 -j DROP
i -A INPUT -p sctp --dport 5 -j DROP
i -A INPUT -p sctp --sport 5:10 ! --dport 7 -j DROP
i -A INPUT -p sctp -m sctp --chunk-types any INIT,DATA -j DROP
i -A INPUT -p sctp -m sctp --chunk-types all SACK,HEARTBEAT -j DROP
i -A INPUT -p sctp -m sctp --chunk-types only ABORT,ASCONF -j DROP
i -A INPUT -p sctp -m sctp ! --chunk-types any INIT,DATA:BE --sport 7 -j DROP
i -A INPUT -p dccp --dport 5 -j DROP
i -A INPUT -p dccp --sport 5:7 ! --dport 9 -j DROP
i -A INPUT -p dccp -m dccp --dccp-types REQUEST,RESPONSE -j DROP
i -A INPUT -p dccp -m dccp ! --dccp-types REQUEST,INVALID -j DROP
i -A INPUT -p dccp -m dccp --dccp-option 5 -j DROP

# helper, devgroup, connbytes, realm, cgroup, and others
i -A INPUT -m helper --helper ftp -j DROP
i -A INPUT -m helper ! --helper ftp -j DROP
i -A INPUT -m devgroup --src-group 5 -j DROP
i -A FORWARD -m devgroup --src-group 5/0xff ! --dst-group 6 -j DROP
i -A FORWARD -m devgroup ! --src-group 0/0xff --dst-group 0x10/0x10 -j DROP
i -A INPUT -m connbytes --connbytes 100 --connbytes-dir both --connbytes-mode packets -j DROP
i -A INPUT -m connbytes --connbytes 100:200 --connbytes-dir original --connbytes-mode bytes -j DROP
i -A INPUT -m connbytes ! --connbytes 100:200 --connbytes-dir reply --connbytes-mode avgpkt -j DROP
i -A INPUT -m connbytes ! --connbytes 100 --connbytes-dir reply --connbytes-mode bytes -j DROP
i -A INPUT -m connbytes --connbytes 0:100 --connbytes-dir original --connbytes-mode avgpkt -j DROP
i -A INPUT -m realm --realm 5 -j DROP
i -A INPUT -m realm ! --realm 5/7 -j DROP
i -A INPUT -m realm ! --realm 9 -j DROP
i -A INPUT -m realm --realm 0/7 -j DROP
i -A INPUT -m cgroup --cgroup 5 -j DROP
i -A OUTPUT -m cgroup ! --cgroup 5 -j DROP
i -A OUTPUT -m tos --tos 0x10 -j DROP
i -A OUTPUT -m tos ! --tos 0x10/0x3f -j DROP
i -A OUTPUT -m quota --quota 1000 -j DROP
i -A INPUT -m recent --name x --set
i -A INPUT -m connlimit --connlimit-above 5 -j DROP
i -A INPUT -m string --string abc --algo bm -j DROP
i -A INPUT -m policy --dir in --pol ipsec -j DROP
i -A FORWARD -m policy --dir in --pol ipsec --reqid 5 -j DROP
i -A INPUT -m policy --dir in --pol none -j DROP
i -A FORWARD -m policy --dir out --pol ipsec --strict --proto esp --mode tunnel --tunnel-src 1.1.1.1 -j DROP
i -A PREROUTING -t raw -m rpfilter -j DROP
i -A PREROUTING -t raw -m rpfilter --invert --loose -j DROP
i -A PREROUTING -t raw -m rpfilter --validmark --invert -j DROP
i -A PREROUTING -t raw -m rpfilter --accept-local -j DROP
i -A INPUT -m socket --transparent -j ACCEPT
i -A FORWARD -m physdev --physdev-is-bridged -j ACCEPT
i -A INPUT -m osf --genre Linux -p tcp -j ACCEPT
i -A INPUT -m u32 --u32 "0=1" -j ACCEPT
i -A INPUT -p ipcomp -m ipcomp --ipcompspi 5 -j ACCEPT
i -A INPUT -p ipcomp -m ipcomp ! --ipcompspi 5:7 -j ACCEPT
i -A INPUT -m bpf --bytecode "1,6 0 0 1" -j ACCEPT

# What is odd in nft's words, too.
i -A INPUT -m conntrack --ctstate DNAT ! --ctstatus ASSURED
i -A INPUT -m conntrack --ctorigsrc 0.0.0.0/0 --ctorigdst 1.1.1.1 --ctreplsrc 2.2.2.2 --ctrepldst 3.3.3.3 --ctexpire 7 --ctproto 6 --ctorigdstport 5 --ctorigsrcport 6 --ctrepldstport 7 --ctreplsrcport 8
i -A INPUT -m conntrack --ctdir REPLY --ctorigsrc 1.1.1.1 --ctproto 6 --ctorigdstport 5
i -A INPUT -m addrtype --dst-type UNSPEC
i -A INPUT -m addrtype --dst-type UNSPEC,LOCAL
i -A INPUT -m addrtype --dst-type THROW
i -A INPUT -m addrtype --dst-type LOCAL,THROW
i -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-name a1 --hashlimit-mode srcip --hashlimit-htable-expire 1500
i -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-name a2 --hashlimit-mode srcip --hashlimit-htable-expire 500
i -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-name a3 --hashlimit-mode srcip,dstport --hashlimit-srcmask 0
i -A INPUT -m hashlimit --hashlimit-upto 1500b/s --hashlimit-name a4 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 1536kb/s --hashlimit-name a5 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 100b/s --hashlimit-burst 1000 --hashlimit-name a6 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 3mb/s --hashlimit-burst 7mb --hashlimit-name a7 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 999/sec --hashlimit-name a8 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 7000/min --hashlimit-name a9 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 1gb/s --hashlimit-name b2 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 10kb/s --hashlimit-burst 35000 --hashlimit-name b3 --hashlimit-mode srcip
i6 -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-name b4 --hashlimit-mode srcip,dstip --hashlimit-srcmask 0 --hashlimit-dstmask 65
i -A INPUT -m hashlimit --hashlimit-upto 100b/s --hashlimit-name b5 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 20000kb/s --hashlimit-name b6 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 3/hour --hashlimit-name b7 --hashlimit-mode srcip
i -A INPUT -m hashlimit --hashlimit-upto 40/day --hashlimit-name b8 --hashlimit-mode srcip
i -A INPUT -m time
i -A INPUT -p icmp ! --icmp-type any
i -A INPUT -p sctp -m sctp ! --chunk-types all SACK
i -A INPUT -p sctp -m sctp ! --chunk-types only SACK
i -A INPUT -p sctp -m sctp --chunk-types all SACK,DATA:BE --sport 7
i -A INPUT -p dccp -m dccp --dccp-types REQUEST --sport 7
i -A INPUT -p dccp -m dccp --dccp-types REQUEST,RESPONSE,DATA,ACK,DATAACK,CLOSEREQ,CLOSE,RESET,SYNC,SYNCACK
i -A INPUT -p dccp -m dccp ! --dccp-types INVALID
i -A INPUT -p dccp -m dccp --dccp-types REQUEST --dccp-option 7
i -A FORWARD -m devgroup --src-group 5/0xff ! --dst-group 6/0xff
i -A FORWARD -m devgroup ! --src-group 5 --dst-group 6
i -A INPUT -m connbytes --connbytes 5:5 --connbytes-dir original --connbytes-mode packets
i -A INPUT -m quota ! --quota 1000
i -t nat -A POSTROUTING -j MASQUERADE --random --random-fully
i -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 7 --random-fully
i -t nat -A PREROUTING -p tcp -j DNAT --to-destination 1.1.1.1 --random --persistent
i -t mangle -A PREROUTING -j CONNMARK --set-mark 0
i -t mangle -A PREROUTING -j CONNMARK --set-xmark 0/0
i -t mangle -A PREROUTING -j CONNMARK --set-xmark 5/0
i -t mangle -A PREROUTING -j CONNMARK --save-mark --nfmask 0 --ctmask 0
i -A INPUT -p tcp -j SYNPROXY
i -A INPUT -p tcp -j SYNPROXY --mss 7
i -A INPUT -p esp -m esp ! --espspi 0:4294967295
i -A INPUT -p tcp -m tcp ! --sport 0:65535 --tcp-option 5
i6 -A INPUT -m ah ! --ahspi 0:4294967295
i6 -A INPUT -m ah --ahlen 0
i6 -A INPUT -p 135 -m mh --mh-type 1
i6 -A INPUT -p 135 -m mh --mh-type 1:5
i6 -A INPUT -p 135 -m mh ! --mh-type 1:5
i6 -A INPUT -p 135 -m mh
i -A INPUT -m devgroup --src-group 5 -m mac --mac-source 00:00:00:00:00:0a
i -A INPUT -m limit --limit 5/sec -m iprange --src-range 1.1.1.1 -p tcp --dport 5 -m ttl --ttl-eq 6 -s 1.1.1.1
i -A FORWARD -m policy --dir out --pol none
i -A INPUT -m helper --helper ""
i -A INPUT -m hashlimit --hashlimit-upto 5/sec --hashlimit-mode srcip,dstip,srcport,dstport --hashlimit-srcmask 24 --hashlimit-dstmask 16 --hashlimit-name c1
i6 -A INPUT -p tcp -m multiport --dports 80 -m conntrack --ctorigsrc ::/0

# What has words in nft, but none in berth.
i -A OUTPUT -m ecn --ecn-ip-ect 1 -j DROP
i -A OUTPUT -p tcp -m ecn --ecn-tcp-cwr ! --ecn-tcp-ece -j DROP
i -A OUTPUT -m connlabel --label 5 -j DROP
i -A INPUT -m cluster --cluster-total-nodes 3 --cluster-local-node 1 --cluster-hash-seed 7 -j ACCEPT
i -t mangle -A POSTROUTING -j TOS --set-tos 0x10
i6 -t mangle -A POSTROUTING -j TOS --set-tos 0x10

# frag, rt, and the other headers of IPv6
i6 -A INPUT -m frag --fraglast -j DROP
i6 -A INPUT -m frag --fragid 5 -j DROP
i6 -A INPUT -m frag --fragid 5:9 --fragfirst --fragmore -j DROP
i6 -A INPUT -m frag ! --fragid 5:9 --fraglen 7 --fragres -j DROP
i6 -A INPUT -m frag ! --fragid 5 -j DROP
i6 -A INPUT -m frag -j DROP
i6 -A INPUT -m rt --rt-type 0 -j DROP
i6 -A INPUT -m rt ! --rt-type 0 --rt-segsleft 1:5 -j DROP
i6 -A INPUT -m rt --rt-segsleft 7 ! --rt-len 9 -j DROP
i6 -A INPUT -m rt ! --rt-segsleft 1:5 -j DROP
i6 -A INPUT -m rt --rt-type 0 --rt-0-res -j DROP
i6 -A INPUT -m rt --rt-type 0 --rt-0-addrs ::1,::2 -j DROP
i6 -A INPUT -m rt -j DROP
i6 -A INPUT -m hbh --hbh-len 5 -j DROP
i6 -A INPUT -m hbh ! --hbh-len 5 -j DROP
i6 -A INPUT -m hbh -j DROP
i6 -A INPUT -m hbh --hbh-opts 5 -j DROP
i6 -A INPUT -m dst --dst-len 5 -j DROP
i6 -A INPUT -m dst --dst-opts 5 -j DROP
i6 -A INPUT -m ipv6header --header hop,dst --soft -j DROP
i6 -A INPUT -m eui64 -j DROP
i6 -A INPUT -m srh --srh-next-hdr 17 --srh-segs-left-eq 5 -j DROP

# LOG, NFLOG
i -A INPUT -m limit --limit 5/min --limit-burst 10 -j LOG --log-prefix "x: " --log-level 4
i -A INPUT -j LOG
for level in emerg alert crit error warning notice info debug; do
	i -A INPUT -j LOG --log-level $level
done
i -A INPUT -j LOG --log-level debug --log-tcp-sequence --log-ip-options --log-uid
i -A INPUT -j LOG --log-tcp-options --log-macdecode
i -A INPUT -j LOG --log-tcp-options --log-tcp-sequence --log-prefix both
i -A INPUT -j LOG --log-tcp-options --log-tcp-sequence --log-macdecode --log-ip-options --log-uid
i -A INPUT -j LOG --log-tcp-options --log-tcp-sequence --log-ip-options --log-uid
i -A INPUT -j LOG --log-prefix 'with "quotes" and \ '
i6 -A INPUT -j LOG --log-prefix "six" --log-level info
i -A INPUT -j NFLOG --nflog-group 5
i -A INPUT -j NFLOG
i -A INPUT -j NFLOG --nflog-prefix "hey" --nflog-threshold 7 --nflog-size 50 --nflog-group 1
i -A INPUT -j NFLOG --nflog-prefix 'a "b" \'

# REJECT
i -A INPUT -j REJECT
i -A INPUT -p tcp -j REJECT --reject-with tcp-reset
for with in net-unreachable host-unreachable proto-unreachable port-unreachable net-prohibited host-prohibited admin-prohibited; do
	i -A INPUT -j REJECT --reject-with icmp-$with
done
i6 -A INPUT -j REJECT
for with in no-route addr-unreach port-unreach adm-prohibited policy-fail reject-route; do
	i6 -A INPUT -j REJECT --reject-with icmp6-$with
done
i6 -A INPUT -p tcp -j REJECT --reject-with tcp-reset

# MARK, CONNMARK, DSCP and what else mangles
i -t mangle -A PREROUTING -j MARK --set-mark 5
i -t mangle -A PREROUTING -j MARK --set-mark 5/0xff
i -t mangle -A PREROUTING -j MARK --set-xmark 0x1/0xff
i -t mangle -A PREROUTING -j MARK --set-xmark 0x5/0x5
i -t mangle -A PREROUTING -j MARK --set-xmark 0x100/0xff
i -t mangle -A PREROUTING -j MARK --or-mark 5
i -t mangle -A PREROUTING -j MARK --and-mark 5
i -t mangle -A PREROUTING -j MARK --xor-mark 5
i -t mangle -A PREROUTING -j MARK --set-mark 0
i -t mangle -A PREROUTING -j MARK --set-xmark 0x0/0x0
i -t mangle -A PREROUTING -j CONNMARK --set-mark 5
i -t mangle -A PREROUTING -j CONNMARK --set-mark 5/0xff
i -t mangle -A PREROUTING -j CONNMARK --set-xmark 0x5/0xf
i -t mangle -A PREROUTING -j CONNMARK --or-mark 5
i -t mangle -A PREROUTING -j CONNMARK --and-mark 5
i -t mangle -A PREROUTING -j CONNMARK --xor-mark 5
i -t mangle -A PREROUTING -j CONNMARK --save-mark
i -t mangle -A PREROUTING -j CONNMARK --restore-mark
i -t mangle -A PREROUTING -j CONNMARK --save-mark --mask 0xff
i -t mangle -A PREROUTING -j CONNMARK --restore-mark --mask 0xff
i -t mangle -A PREROUTING -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xff
i -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xf --ctmask 0xff
i -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xff
i -t mangle -A POSTROUTING -j DSCP --set-dscp 5
i -t mangle -A POSTROUTING -j DSCP --set-dscp-class EF
i6 -t mangle -A POSTROUTING -j DSCP --set-dscp 5
i -t mangle -A POSTROUTING -j CLASSIFY --set-class 1:5
i -t mangle -A POSTROUTING -j CLASSIFY --set-class 0:0
i -t mangle -A POSTROUTING -j CLASSIFY --set-class 1:0
i -t mangle -A POSTROUTING -j CLASSIFY --set-class 0:ab
i -t mangle -A POSTROUTING -j CLASSIFY --set-class ffff:ffff
i -t mangle -A PREROUTING -j TTL --ttl-set 5
i6 -t mangle -A PREROUTING -j HL --hl-dec 1
i -t mangle -A PREROUTING -p tcp -j ECN --ecn-tcp-remove
i -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 80 --on-ip 127.0.0.1 --tproxy-mark 1/1
i -t mangle -A PREROUTING -p tcp -j TCPOPTSTRIP --strip-options 5
i -t mangle -A PREROUTING -p tcp -j TCPOPTSTRIP --strip-options 5,7
i -t mangle -A OUTPUT -j CHECKSUM --checksum-fill
i -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
i -A FORWARD -p tcp -j TCPMSS --set-mss 1400
i -A INPUT -j TEE --gateway 1.1.1.1
i -A INPUT -j TEE --gateway 1.1.1.1 --oif eth7
i6 -A INPUT -j TEE --gateway fd00::1
i6 -A INPUT -j TEE --gateway fd00::1 --oif eth7
i -A INPUT -j AUDIT --type accept
i -A INPUT -p tcp -j SYNPROXY --sack-perm --timestamp --mss 1460 --wscale 7
i -A INPUT -j NFQUEUE
i -A INPUT -j NFQUEUE --queue-num 7 --queue-bypass
i -A INPUT -j NFQUEUE --queue-balance 7:9 --queue-bypass --queue-cpu-fanout
i -A INPUT -j NFQUEUE --queue-balance 0:3
i -t raw -A PREROUTING -j TRACE
i -t raw -A PREROUTING -j CT --notrack
i -t raw -A PREROUTING -j NOTRACK
i -t raw -A PREROUTING -j CT --zone 5
i -t raw -A PREROUTING -p tcp -j CT --helper ftp
i6 -t raw -A PREROUTING -j CT --notrack

# NAT
i -t nat -A POSTROUTING -o eth0 -j MASQUERADE
i -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE --random-fully
i -t nat -A POSTROUTING -j MASQUERADE --random
i -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2048
i -t nat -A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024 --random
i6 -t nat -A POSTROUTING -j MASQUERADE
i6 -t nat -A POSTROUTING -p udp -j MASQUERADE --to-ports 10-20 --random-fully
i -t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4
i -t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4-1.2.3.9 --random-fully
i -t nat -A POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4:80
i -t nat -A POSTROUTING -p tcp -j SNAT --to-source :80-90
i -t nat -A POSTROUTING -p tcp -j SNAT --to-source 1.2.3.4-1.2.3.9:1000-2000 --random --persistent
i -t nat -A POSTROUTING -j SNAT --to-source 1.2.3.4 --random --random-fully --persistent
i6 -t nat -A POSTROUTING -j SNAT --to-source fd00::1
i6 -t nat -A POSTROUTING -p tcp -j SNAT --to-source [fd00::1-fd00::5]:80-90 --random
i6 -t nat -A POSTROUTING -p tcp -j SNAT --to-source [fd00::1]:80 --persistent
i -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080
i -t nat -A PREROUTING -j DNAT --to-destination 10.0.0.1
i -t nat -A PREROUTING -j DNAT --to-destination 10.0.0.1-10.0.0.9 --persistent
i -t nat -A PREROUTING -p tcp -j DNAT --to-destination :8080
i -t nat -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.5:80-90 --random
i -t nat -A PREROUTING -p tcp --dport 10:20 -j DNAT --to-destination 10.0.0.1:80-90/100
i -t nat -A PREROUTING -j DNAT --to-destination 10.0.0.1 --random --persistent
i6 -t nat -A PREROUTING -p tcp -j DNAT --to-destination [fd00::1]:80
i6 -t nat -A PREROUTING -j DNAT --to-destination fd00::1
i -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080
i -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 80-90 --random
i -t nat -A PREROUTING -j REDIRECT
i -t nat -A PREROUTING -j REDIRECT --random
i6 -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 8080
i6 -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 8080-8090 --random
i6 -t nat -A PREROUTING -j REDIRECT
i -t nat -A PREROUTING -j NETMAP --to 10.0.0.0/24
i6 -t nat -A PREROUTING -j NETMAP --to fd00::/64

# kube-proxy
for chain in KUBE-SERVICES KUBE-NODEPORTS KUBE-POSTROUTING KUBE-MARK-MASQ KUBE-SVC-NPX46M4PTMTKRN6Y KUBE-SEP-ABCDEFGHIJKLMNOP KUBE-SEP-QRSTUVWXYZ234567 KUBE-EXT-XPGD46QRK7WJZT7O; do
	i -t nat -N $chain
done
for chain in KUBE-FORWARD KUBE-FIREWALL KUBE-EXTERNAL-SERVICES KUBE-PROXY-FIREWALL; do
	i -N $chain
done
i -t nat -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
i -t nat -A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
i -t nat -A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
i -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
i -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
i -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
i -t nat -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
i -t nat -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
i -t nat -A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
i -t nat -A KUBE-NODEPORTS -p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-EXT-XPGD46QRK7WJZT7O
i -t nat -A KUBE-EXT-XPGD46QRK7WJZT7O -m comment --comment "masquerade traffic for default/web external destinations" -j KUBE-MARK-MASQ
i -t nat -A KUBE-SVC-NPX46M4PTMTKRN6Y ! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-MARK-MASQ
i -t nat -A KUBE-SVC-NPX46M4PTMTKRN6Y -m comment --comment "default/kubernetes:https -> 10.0.0.2:6443" -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-ABCDEFGHIJKLMNOP --mask 255.255.255.255 --rsource -j KUBE-SEP-ABCDEFGHIJKLMNOP
i -t nat -A KUBE-SVC-NPX46M4PTMTKRN6Y -m comment --comment "default/kubernetes:https -> 10.0.0.2:6443" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ABCDEFGHIJKLMNOP
i -t nat -A KUBE-SVC-NPX46M4PTMTKRN6Y -m comment --comment "default/kubernetes:https -> 10.0.0.3:6443" -j KUBE-SEP-QRSTUVWXYZ234567
i -t nat -A KUBE-SEP-ABCDEFGHIJKLMNOP -s 10.0.0.2/32 -m comment --comment "default/kubernetes:https" -j KUBE-MARK-MASQ
i -t nat -A KUBE-SEP-ABCDEFGHIJKLMNOP -p tcp -m comment --comment "default/kubernetes:https" -m recent --set --name KUBE-SEP-ABCDEFGHIJKLMNOP --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.0.0.2:6443
i -A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
i -A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
i -A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
i -A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "default/web has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30080 -j REJECT --reject-with icmp-port-unreachable
i -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
i -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
i -A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
i -A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT

# Docker
i -N DOCKER
i -N DOCKER-USER
i -N DOCKER-ISOLATION-STAGE-1
i -N DOCKER-ISOLATION-STAGE-2
i -t nat -N DOCKER
i -A FORWARD -j DOCKER-USER
i -A FORWARD -j DOCKER-ISOLATION-STAGE-1
i -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
i -A FORWARD -o docker0 -j DOCKER
i -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
i -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
i -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
i -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
i -A DOCKER-USER -j RETURN
i -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
i -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
i -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
i -t nat -A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
i -t nat -A DOCKER -i docker0 -j RETURN
i -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80

# Istio
for chain in ISTIO_INBOUND ISTIO_IN_REDIRECT ISTIO_OUTPUT ISTIO_REDIRECT; do
	i -t nat -N $chain
done
i -t nat -A PREROUTING -p tcp -j ISTIO_INBOUND
i -t nat -A OUTPUT -p tcp -j ISTIO_OUTPUT
i -t nat -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
i -t nat -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
i -t nat -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
i -t nat -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
i -t nat -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
i -t nat -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
i -t nat -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
i -t nat -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
i -t nat -A ISTIO_OUTPUT -j ISTIO_REDIRECT
i -t nat -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
i -t mangle -N ISTIO_DIVERT
i -t mangle -A PREROUTING -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT
i -t mangle -A PREROUTING -p tcp -m mark --mark 0x539 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
i -t mangle -A OUTPUT -p tcp -m connmark --mark 0x539 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff

# Calico
for chain in cali-INPUT cali-FORWARD cali-from-wl-dispatch cali-tw-cali12345 cali-wl-to-host; do
	i -N $chain
done
i -A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
i -A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
i -A FORWARD -m comment --comment "cali:mp77cMpurHhyjLrM" -j MARK --set-xmark 0x10000/0x10000
i -A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000
i -A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch
i -A cali-INPUT -p udp -m comment --comment "cali:J76FwxInZIsk7uKY" -m comment --comment "Allow IPv4 VXLAN packets from allowed hosts" -m multiport --dports 4789 -m addrtype --dst-type LOCAL -j ACCEPT
i -A cali-INPUT -i cali+ -m comment --comment "cali:FewJpBykm9iJ-YNH" -g cali-wl-to-host
i -A cali-tw-cali12345 -m comment --comment "cali:HwrN_pwvtIbhGtTR" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
i -A cali-tw-cali12345 -m comment --comment "cali:gFt4bQsbWEdAfKLp" -m conntrack --ctstate INVALID -j DROP
i -A cali-tw-cali12345 -p udp -m comment --comment "cali:CCoy9I6XbwDqI_Nr" -m comment --comment "Drop VXLAN encapped packets originating in workloads" -m multiport --dports 4789 -j DROP
i -A cali-tw-cali12345 -p ipencap -m comment --comment "cali:bhqlcUSYxHtPZJlR" -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP
i -t nat -A POSTROUTING -m comment --comment "cali:SXWvdsbh4Mw7wOln" -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
i -t raw -A PREROUTING -m comment --comment "cali:XFX5xbM8B9qR10JG" -j MARK --set-xmark 0x0/0xf0000
i -t raw -A PREROUTING -i cali+ -m comment --comment "cali:EWMPb0zVROM-woQp" -j MARK --set-xmark 0x40000/0x40000
i -t raw -A PREROUTING -m comment --comment "cali:PWuxTAIaFCtsg5Qa" -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
