package config

import (
	"errors"

	"github.com/spf13/pflag"

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/web"
)

// Web is where a daemon shows itself, beside Process.Status, and to whom.
type Web struct {
	Metrics string // IP:PORT for Prometheus; empty: none
	// Dashboard is IP:PORT of the page for browsers; empty: none.
	Dashboard string
	Access    web.Access // of every IP:PORT, that of Process.Status too

	TokenFile, TLSFile string // what Access was read from
}

// webOptions are the options that p.Web is made of.
func webOptions(p *Process) []option {
	w := &p.Web
	return []option{
		{
			name: "metrics", arg: "IP:PORT", group: Output,
			set: setWebAddress(&w.Metrics, "127.0.0.1:9436"),
			help: "serve metrics for Prometheus there, at /metrics; beyond loopback with " +
				"--web-token and --web-tls",
		},
		{
			name: "web-token", arg: "FILE", group: Output,
			set: text(&w.TokenFile, "the name of a file"),
			help: "who reads --status or --metrics at an IP:PORT must send the token in FILE " +
				"(Authorization: Bearer TOKEN)",
		},
		{
			name: "web-tls", arg: "FILE", group: Output,
			set:  text(&w.TLSFile, "the name of a file"),
			help: "serve them over TLS, with the certificate and the private key in FILE (PEM)",
		},
	}
}

// dashboard is the option of commands that have a page.
func (w *Web) dashboard() option {
	return option{
		name: "dashboard", arg: "IP:PORT", group: Output,
		set: setWebAddress(&w.Dashboard, "127.0.0.1:8436"),
		help: "serve a page there that shows in a browser how it goes; beyond loopback with " +
			"--web-token and --web-tls",
	}
}

// DashboardOptions are the options of tcpcopy dashboard while they are read.
type DashboardOptions struct{ p Process }

// NewDashboardOptions adds the options of tcpcopy dashboard to fs.
func NewDashboardOptions(fs *pflag.FlagSet) *DashboardOptions {
	o := new(DashboardOptions)
	o.p.Web.Dashboard = "127.0.0.1:8436"
	listen := o.p.Web.dashboard()
	listen.name, listen.def = "listen", o.p.Web.Dashboard
	listen.help = "serve the page there; beyond loopback with --web-token and --web-tls"
	register(fs, []option{listen})
	for _, w := range webOptions(&o.p) {
		if w.name != "metrics" {
			register(fs, []option{w})
		}
	}
	return o
}

// Dashboard returns the settings of the options, which have been parsed. An error is a *Problem.
func (o *DashboardOptions) Dashboard() (*Web, error) {
	w := o.p.Web
	if err := w.load(); err != nil {
		return nil, err
	}
	return &w, nil
}

func setWebAddress(dst *string, example string) func(string) error {
	return func(s string) error {
		if err := status.Address(s); err != nil || s[0] == '/' {
			return wanted("wanted IP:PORT, such as %s", example)
		}
		*dst = s
		return nil
	}
}

// load reads the files, and refuses an address that is open to others without both of them.
func (w *Web) load() error {
	if (w.TokenFile == "") != (w.TLSFile == "") {
		p := &Problem{
			Flag: "--web-token",
			What: "goes over the network in the clear: wanted --web-tls FILE, too",
		}
		if w.TokenFile == "" {
			p = &Problem{
				Flag: "--web-tls",
				What: "lets everybody read: wanted --web-token FILE, too",
			}
		}
		return p
	}
	if w.TokenFile != "" {
		var err error
		if w.Access.Token, err = web.LoadToken(w.TokenFile); err != nil {
			return &Problem{
				Flag: "--web-token", Value: w.TokenFile, What: fileWords(err),
				Hint: "head -c 24 /dev/urandom | base64 > token makes one",
			}
		}
		if w.Access.Certificate, err = web.LoadCertificate(w.TLSFile); err != nil {
			return &Problem{
				Flag: "--web-tls", Value: w.TLSFile, What: fileWords(err),
				Hint: "the file has both: cat certificate.pem key.pem > both.pem",
			}
		}
	}
	if err := w.open("--dashboard", w.Dashboard); err != nil {
		return err
	}
	return w.open("--metrics", w.Metrics)
}

// open refuses addr if others than this host's programs could read there what is for few.
func (w *Web) open(flag, addr string) error {
	if addr == "" || web.IsLocal(addr) || w.Access.Complete() {
		return nil
	}
	return &Problem{Flag: flag, Value: addr, What: web.ErrAccess.Error()}
}

// fileWords returns what is wrong with a file, without its name.
func fileWords(err error) string {
	if words := kernelWords(err); words != err.Error() {
		return "cannot be read: " + words
	}
	if in := errors.Unwrap(err); in != nil {
		err = in
	}
	return err.Error()
}
