package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/terminal"
	"tcpcopy/internal/account/web"
	"tcpcopy/internal/config"
)

func (p *program) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "top [ADDR…]",
		Annotations: map[string]string{"usage": "tcpcopy top [ADDR…]"},
		Short:       "watch running copiers, intercepts and agents in the terminal",
		Long: `
ADDR is the --status address of a node: a path, or IP:PORT. Without ADDR, all nodes of this host
are watched. Counts of several copiers are summed, and percentiles are those of all answers
together. q or Ctrl-C ends the view, and nothing else. s shows the sessions of the moment: which
wait for what; o changes their order, and / takes a filter: an address, a network, :PORT, a state.`,
		Example: `tcpcopy top
tcpcopy top /run/copy.sock 127.0.0.1:36525
tcpcopy top 10.0.0.5:36525 --token token --ca ca.pem`,
	}
	client := clientOptions(cmd)
	cmd.RunE = func(_ *cobra.Command, addrs []string) error {
		addrs, c, err := nodesToAsk("top", addrs, client)
		if err != nil {
			return err
		}
		if !isTerminal(p.terminal()) {
			return &config.Problem{
				What: "top: standard output is not a terminal",
				Hint: "tcpcopy status prints a table instead",
			}
		}
		life := watchSignals(context.Background(), p.err, "", false)
		defer life.release()
		ctx, cancel := context.WithCancel(life.ctx)
		defer cancel()
		go func() {
			select {
			case <-life.stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		return terminal.Run(ctx, &terminal.Config{
			In: os.Stdin, Out: p.terminal(), Keys: "q quit", Fleet: watch(ctx, c, addrs),
		})
	}
	return cmd
}

// terminal returns standard output as it was before it was wrapped.
func (p *program) terminal() io.Writer {
	if o, ok := p.out.(*output); ok {
		return o.w
	}
	return p.out
}

// clientFiles are the files of who asks nodes beyond this host.
type clientFiles struct{ token, roots string }

// clientOptions adds the options of a command that asks nodes.
func clientOptions(cmd *cobra.Command) *clientFiles {
	f := new(clientFiles)
	cmd.Flags().StringVar(
		&f.token,
		"token",
		"",
		"ask at IP:PORT over TLS, with the --web-token in this `FILE`",
	)
	cmd.Flags().StringVar(&f.roots, "ca", "",
		"certificates (PEM `FILE`) that prove such a node (default: the system's)")
	return f
}

// load returns the client that the files make.
func (f *clientFiles) load() (*status.Client, error) {
	c := new(status.Client)
	if f.token == "" {
		if f.roots != "" {
			return nil, &config.Problem{
				Flag: "--ca",
				What: "is for nodes that want a token: wanted --token FILE, too",
			}
		}
		return c, nil
	}
	var err error
	if c.Token, err = web.LoadToken(f.token); err != nil {
		return nil, &config.Problem{Flag: "--token", Value: f.token, What: fileError(err)}
	}
	if f.roots != "" {
		if c.Roots, err = web.LoadRoots(f.roots); err != nil {
			return nil, &config.Problem{Flag: "--ca", Value: f.roots, What: fileError(err)}
		}
	}
	return c, nil
}

// nodesToAsk returns the addresses that a command was given, or those of this host's nodes.
func nodesToAsk(command string, addrs []string, f *clientFiles) ([]string, *status.Client, error) {
	for _, a := range addrs {
		if err := status.Address(a); err != nil {
			return nil, nil, &config.Problem{What: fmt.Sprintf("%s: got %q: %v", command, a, err)}
		}
	}
	if len(addrs) == 0 {
		addrs = status.Nodes()
	}
	if len(addrs) == 0 {
		return nil, nil, &withRemedy{
			errors.New(command + ": no copier, intercept or agent answers in " + status.Dir),
			"give the ADDR of one that was started with --status ADDR",
		}
	}
	c, err := f.load()
	return addrs, c, err
}

// watch returns a fleet of the nodes at addrs, which are watched until ctx is done.
func watch(ctx context.Context, c *status.Client, addrs []string) *fleet.Fleet {
	f := fleet.New(addrs)
	f.Ask = c.Sessions
	for _, a := range addrs {
		go c.Watch(ctx, a, func(n *status.Node, err error) { f.Add(a, n, err, time.Now()) })
	}
	return f
}
