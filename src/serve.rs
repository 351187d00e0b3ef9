//! Drive the DHCP and DNS cores with sockets and timers.
