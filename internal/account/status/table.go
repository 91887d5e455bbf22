package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one line of a table: a node, or the error of asking it.
type Row struct {
	Addr string
	Node *Node
	Err  error
}

// Table writes a table of nodes, one line each. Control characters in their answers are replaced.
func Table(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tKIND\tVERSION\tUP FOR\tSESSIONS\tLIVE\tDELIVERED\tPEERS\t"+
		"CAPABILITIES\tWHAT")
	for _, r := range rows {
		if r.Err != nil {
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t-\t-\t%s\n", plain(r.Addr), plain(r.Err.Error()))
			continue
		}
		n := r.Node
		delivered := "-"
		if n.DeliveredPercent != nil {
			delivered = fmt.Sprintf("%.2f %%", *n.DeliveredPercent)
		}
		peers := "-"
		if n.Peers > 0 {
			peers = fmt.Sprintf("%d/%d", n.Up, n.Peers)
		}
		what := n.Via
		if len(n.Mappings) > 0 {
			what = strings.Join(n.Mappings, ", ") + " via " + n.Via
		}
		if len(n.Keys) > 0 {
			what += ", keys " + strings.Join(n.Keys, ", ")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n",
			plain(fmt.Sprintf("%s:%d", n.Host, n.PID)), plain(n.Kind), plain(n.Version),
			n.Now.Sub(n.Start).Round(time.Second), n.Sessions, n.Live, delivered, peers,
			plain(n.Privileges.String()), plain(what))
	}
	return t.Flush()
}

// plain returns s with control characters replaced: one line that is safe for a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
