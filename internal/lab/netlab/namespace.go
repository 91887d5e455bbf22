package netlab

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"

	"github.com/vishvananda/netns"
)

// maxIdle bounds the threads that a namespace keeps for the next Do; a burst may use more.
const maxIdle = 16

// Namespace is one host of the lab. Its methods may be called from any goroutine until Net.Close.
type Namespace struct {
	// "client", "production", "target", "assistant" or "switch"; of further hosts with a number:
	// "production2"
	Name string

	handle netns.NsHandle

	mu      sync.Mutex
	idle    []*worker
	closed  bool
	starter *worker // starts every command: the kernel kills them when this thread ends
	running map[*Cmd]struct{}
}

// worker is a goroutine locked to a thread in the namespace. The thread ends with it, so that the
// runtime never uses it for other goroutines.
type worker struct {
	jobs chan job
}

type job struct {
	fn   func()
	done chan struct{}
}

// newNamespace makes a network namespace, which exists as long as its handle is open.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name, handle: netns.None(), running: map[*Cmd]struct{}{}}
	done := make(chan error, 1)
	onThread(func() {
		handle, err := netns.New()
		n.handle = handle
		done <- err
	})
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	var err error
	if n.starter, err = n.newWorker(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// onThread runs fn in a new goroutine that keeps its thread and ends with it. It is never the
// process's first thread, which cannot end and which /proc/self stands for.
func onThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if syscall.Gettid() != syscall.Getpid() {
			fn()
			return
		}
		started := make(chan struct{})
		onThread(func() {
			close(started)
			fn()
		})
		<-started
		runtime.UnlockOSThread()
	}()
}

func (n *Namespace) newWorker() (*worker, error) {
	w := &worker{jobs: make(chan job)}
	ready := make(chan error, 1)
	onThread(func() {
		err := netns.Set(n.handle)
		ready <- err
		if err != nil {
			return
		}
		for j := range w.jobs {
			j.fn()
			close(j.done)
		}
	})
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("enter network namespace %s: %w", n.Name, err)
	}
	return w, nil
}

func (w *worker) do(fn func()) {
	j := job{fn: fn, done: make(chan struct{})}
	w.jobs <- j
	<-j.done
}

// Do runs fn on a thread in the namespace and waits for it. Sockets that fn opens belong to the
// namespace and may be used from anywhere. Goroutines that fn starts are not in the namespace. fn
// must return: it must not call runtime.Goexit, nor t.Fatal.
func (n *Namespace) Do(fn func()) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return fmt.Errorf("enter network namespace %s: it is closed", n.Name)
	}
	var w *worker
	if last := len(n.idle) - 1; last >= 0 {
		w, n.idle = n.idle[last], n.idle[:last]
	}
	n.mu.Unlock()
	if w == nil {
		var err error
		if w, err = n.newWorker(); err != nil {
			return err
		}
	}
	w.do(fn)
	n.mu.Lock()
	if keep := !n.closed && len(n.idle) < maxIdle; keep {
		n.idle = append(n.idle, w)
		w = nil
	}
	n.mu.Unlock()
	if w != nil {
		close(w.jobs)
	}
	return nil
}

// Try is Do for a function that can fail.
func (n *Namespace) Try(fn func() error) error {
	var failed error
	if err := n.Do(func() { failed = fn() }); err != nil {
		return err
	}
	return failed
}

// Listen listens on a TCP address inside the namespace: "tcp", "tcp4" or "tcp6", and an IP address
// with a port.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // the plain TCP that production servers speak
	var l net.Listener
	err := n.Try(func() (err error) {
		l, err = config.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// Dial connects from inside the namespace to an IP address with a port. d may be nil. It occupies a
// thread until the connection stands.
func (n *Namespace) Dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn,
	error) {
	if d == nil {
		d = &net.Dialer{}
	}
	var c net.Conn
	err := n.Try(func() (err error) {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

func (n *Namespace) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// close ends the namespace's commands and threads, and lets go of it: the kernel takes it down when
// the last socket in it is closed.
func (n *Namespace) close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	idle, running := n.idle, n.running
	n.idle, n.running = nil, nil
	n.mu.Unlock()
	for c := range running {
		c.Kill()
	}
	for _, w := range idle {
		close(w.jobs)
	}
	if n.starter != nil {
		close(n.starter.jobs)
	}
	if n.handle.IsOpen() {
		n.handle.Close()
	}
}
