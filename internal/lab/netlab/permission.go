package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
)

// insideUserNamespace is set in the environment of a process that EnterUserNamespace started.
const insideUserNamespace = "TCPCOPY_LAB_USER_NAMESPACE"

// PermissionError is returned if this process may not make network namespaces. It names what is
// missing.
type PermissionError struct {
	Missing string // the permission
	Hint    string // how to get it
	Err     error  // what the kernel said
}

// Error names the permission that is missing.
func (e *PermissionError) Error() string {
	return fmt.Sprintf("make network namespace: %v: missing %s", e.Err, e.Missing)
}

// Unwrap returns Err.
func (e *PermissionError) Unwrap() error { return e.Err }

// Permitted returns nil if this process may make the lab's namespaces, and a *PermissionError
// otherwise.
func Permitted() error {
	done := make(chan error, 1)
	onThread(func() {
		handle, err := netns.New()
		if err == nil {
			handle.Close()
		}
		done <- err
	})
	err := <-done
	if err == nil {
		return nil
	}
	return &PermissionError{
		Missing: "CAP_SYS_ADMIN (root)",
		Hint:    "run it as root, or allow unprivileged user namespaces",
		Err:     err,
	}
}

// EnterUserNamespace runs the same program again, with the same arguments and standard files, as
// root of a new user namespace. It passes signals on, waits for the program and returns its exit
// code, with which the caller should exit. If user namespaces are not permitted either, it returns
// a *PermissionError.
func EnterUserNamespace() (code int, err error) {
	if os.Getenv(insideUserNamespace) != "" {
		return 0, &PermissionError{
			Missing: "CAP_SYS_ADMIN inside a user namespace",
			Hint:    "run it as root",
			Err:     syscall.EPERM,
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("enter user namespace: %w", err)
	}
	// the child is to die with this process, and so with the thread that starts it
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), insideUserNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		Setpgid:     true, // or a terminal's interrupt would reach it twice
		Pdeathsig:   syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, &PermissionError{Missing: "CAP_SYS_ADMIN (root), and unprivileged user " +
			"namespaces", Hint: userNamespaceHint(), Err: err}
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				cmd.Process.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	if err := cmd.Wait(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
			return exit.ExitCode(), nil
		}
		return 0, fmt.Errorf("run in user namespace: %w", err)
	}
	return 0, nil
}

// userNamespaceHint names the switch that forbids user namespaces, where it can be told.
func userNamespaceHint() string {
	for _, s := range []struct{ name, forbids string }{
		{"kernel.unprivileged_userns_clone", "0"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1"},
		{"user.max_user_namespaces", "0"},
	} {
		value, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(s.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(value)) == s.forbids {
			return fmt.Sprintf("run it as root (user namespaces are forbidden here by sysctl "+
				"%s=%s)", s.name, s.forbids)
		}
	}
	return "run it as root"
}
