/* The network services of the tiny guest: Debian's busybox-static has no tcpsvd and no udpsvd.
 *
 *   serve tcp PORT PROGRAM [ARG...]   PROGRAM on each connection, which is its stdin and stdout;
 *                                     TCPLOCALADDR and TCPREMOTEADDR are ADDRESS:PORT, as tcpsvd(8)
 *   serve udp PORT                    sends every datagram back to where it came from
 *
 * IPv4 and IPv6 by one socket (RFC 3493 3.7), one process per connection, no limits: for tests, not for the world.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* An IPv4 address as itself, an IPv6 address in brackets. */
static void name(const char *variable, const struct sockaddr_in6 *at)
{
	char address[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 10];
	const char *form = "[%s]:%u";

	if (IN6_IS_ADDR_V4MAPPED(&at->sin6_addr)) {
		inet_ntop(AF_INET, &at->sin6_addr.s6_addr[12], address, sizeof address);
		form = "%s:%u";
	} else {
		inet_ntop(AF_INET6, &at->sin6_addr, address, sizeof address);
	}
	snprintf(text, sizeof text, form, address, ntohs(at->sin6_port));
	setenv(variable, text, 1);
}

static void converse(int peer, char **program)
{
	struct sockaddr_in6 here, there;
	socklen_t length = sizeof here;
	struct timeval limit = { .tv_sec = 5 };
	char rest[512];

	getsockname(peer, (struct sockaddr *)&here, &length);
	length = sizeof there;
	getpeername(peer, (struct sockaddr *)&there, &length);
	name("TCPLOCALADDR", &here);
	name("TCPREMOTEADDR", &there);
	signal(SIGCHLD, SIG_DFL);
	if (fork() == 0) {
		dup2(peer, 0);
		dup2(peer, 1);
		dup2(peer, 2);
		close(peer);
		execvp(program[0], program);
		fail(program[0]);
	}
	wait(NULL);
	/* Closing with unread input would be a reset, which can overtake the answer. */
	shutdown(peer, SHUT_WR);
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	while (read(peer, rest, sizeof rest) > 0)
		;
	_exit(0);
}

static void tcp(int listener, char **program)
{
	signal(SIGCHLD, SIG_IGN);
	if (listen(listener, 128) < 0)
		fail("listen");
	for (;;) {
		int peer = accept(listener, NULL, NULL);

		if (peer < 0)
			continue;
		if (fork() == 0) {
			close(listener);
			converse(peer, program);
		}
		close(peer);
	}
}

static void udp(int socket)
{
	static char datagram[65536];
	struct sockaddr_in6 from;

	for (;;) {
		socklen_t length = sizeof from;
		ssize_t n = recvfrom(socket, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &length);

		if (n >= 0)
			sendto(socket, datagram, n, 0, (struct sockaddr *)&from, length);
	}
}

int main(int argc, char **argv)
{
	int stream = argc > 3 && strcmp(argv[1], "tcp") == 0;
	int yes = 1, no = 0;

	if (!stream && !(argc == 3 && strcmp(argv[1], "udp") == 0)) {
		fputs("usage: serve tcp PORT PROGRAM [ARG...] | serve udp PORT\n", stderr);
		return 2;
	}
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[2])) };
	int fd = socket(AF_INET6, stream ? SOCK_STREAM : SOCK_DGRAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
		fail(argv[2]);
	if (stream)
		tcp(fd, argv + 3);
	udp(fd);
}
