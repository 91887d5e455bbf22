package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
)

func (p *program) interceptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "intercept -i DEV -F EXPR [options]",
		Annotations: usage("tcpcopy intercept -i DEV -F EXPR [options]",
			"intercept -i DEV -F EXPR [options]",
			"tcpcopy intercept --on-target --allow PORT [options]"),
		Short: "report the test server's answers to copiers, or open their connections there",
		Example: `On a third host, to which the test server routes its answers:
  tcpcopy intercept -i eth0 -F 'tcp and src port 8080' --key key
On the test server, a route for answers to the clients' network through that host (10.0.0.3):
  ip route add 192.0.2.0/24 via 10.0.0.3
On the test server itself, without a third host or a route:
  tcpcopy intercept --on-target --allow 8080 --key key
The same for copiers with keys of their own, read again at SIGHUP:
  mkdir -m 700 keys
  tcpcopy keygen > keys/alice
  tcpcopy intercept --on-target --allow 8080 --keys keys --allow-clients 192.0.2.0/24`,
		Args: noArguments,
	}
	options := config.NewInterceptOptions(cmd.Flags(), p.host)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, warnings, err := options.Intercept()
		if err != nil {
			return err
		}
		return p.serveIntercept(c, warnings)
	}
	complete(cmd)
	return cmd
}

// untilStopped returns a context that ends with the command's, or when the command is told to stop.
func untilStopped(s *engine.Control) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.Context)
	go func() {
		select {
		case <-s.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// serveIntercept serves copiers until a signal ends it.
func (p *program) serveIntercept(c *config.Intercept, warnings []string) error {
	if c.Target.DryRun || c.Target.Cleanup {
		return p.planTarget(&c.Target)
	}
	d := daemon{
		Process: c.Process, report: c.Report, warnings: warnings, stopping: "stopping",
		routes: c.OnTarget, subject: interceptSubject(c), needs: interceptNeeds(c),
	}
	if c.Keys != nil {
		d.renew = c.Keys.Reload
	}
	return p.serve(d, func(s *engine.Control, log *logbook) error {
		ctx, cancel := untilStopped(s) // an intercept has nothing to drain
		defer cancel()
		s.Context = ctx
		err := p.intercept(s, c, &reporter{path: c.Report, log: log}, log)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}
