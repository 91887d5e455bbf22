// Package sys makes the system calls that the standard library lacks: capture rings, packet and raw
// sockets, batched sends, epoll, capabilities. It alone imports x/sys/unix and unsafe.
//
// It imports nothing of this module, and must never hold policy: which packets to capture, what a
// lost packet means, and when to try again are decisions of its callers. A socket belongs to the
// network namespace of the thread that opens it; all later calls work from any thread.
//
// Read ring.go first for what is captured, and tcpsocket.go for connections.
package sys
