// Package sys is the one place that talks to the kernel below the standard library: capture rings,
// packet and raw sockets, batched sending, epoll, capabilities. It alone imports x/sys/unix and unsafe.
//
// It holds no policy: which packets to capture, what a lost one means and when to try again are for its
// callers, the packages of capture/…, output/… and the tests. Sockets belong to the network namespace of
// the thread that opens them; all later calls work from any thread.
package sys
