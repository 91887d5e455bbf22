package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/dashboard"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/web"
	"tcpcopy/internal/config"
	"tcpcopy/internal/doctor"
)

func (p *program) dashboardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "dashboard [ADDR…]",
		Annotations: map[string]string{"usage": "tcpcopy dashboard [ADDR…]"},
		Short:       "show running copiers, intercepts and agents on one page in a browser",
		Long: `
ADDR is the --status address of a node: a path, or IP:PORT. Without ADDR, all nodes of this host
are shown. Counts of several copiers are summed. Nothing can be changed on the page.`,
		Example: `tcpcopy dashboard
tcpcopy dashboard --listen 127.0.0.1:8437 /run/copy.sock 127.0.0.1:36525`,
	}
	client := clientOptions(cmd)
	options := config.NewDashboardOptions(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, addrs []string) error {
		w, err := options.Dashboard()
		if err != nil {
			return err
		}
		addrs, c, err := nodesToAsk("dashboard", addrs, client)
		if err != nil {
			return err
		}
		life := watchSignals(context.Background(), p.err, "", false)
		defer life.release()
		ctx, cancel := context.WithCancel(life.ctx)
		defer cancel()
		s, err := p.serveDashboard(w, watch(ctx, c, addrs))
		if err != nil {
			return err
		}
		defer s.Close()
		<-life.stop
		return nil
	}
	return cmd
}

// explanation returns what tcpcopy explain says about a code; empty if there is none.
func explanation(code string) string {
	c, ok := doctor.Find(code)
	if !ok {
		return ""
	}
	var b strings.Builder
	doctor.Explain(&b, &c)
	return b.String()
}

// serveDashboard serves the page of a fleet, and says where.
func (p *program) serveDashboard(w *config.Web, f *fleet.Fleet) (*web.Server, error) {
	s, err := dashboard.Listen(w.Dashboard, w.Access, f, explanation)
	if err != nil {
		return nil, &config.Problem{
			Flag: "--dashboard", Value: w.Dashboard,
			What: "cannot be served on: " + errors.Unwrap(err).Error(),
		}
	}
	scheme, query := "http", ""
	if w.Access.Certificate != nil {
		scheme, query = "https", "/?token=TOKEN"
	}
	say(p.err, "dashboard: %s", fmt.Sprintf("%s://%s%s", scheme, s.Addr(), query))
	return s, nil
}
