package app

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"tcpcopy/internal/config"
	"tcpcopy/internal/lab"
)

func (p *program) labCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "lab [options] [-- COPY OPTIONS]",
		Annotations: usage("tcpcopy lab [options] [-- COPY OPTIONS]"),
		Short:       "demonstrate a copy between virtual hosts on this machine",
		Example: `Fifty connections, copied over ordinary connections:
  tcpcopy lab
From the clients' own addresses, with 1 % of the packets lost:
  tcpcopy lab --via raw --loss 1
A test server three times slower, for 20 seconds, without waiting for its answers:
  tcpcopy lab --answers slower --duration 20s -- --wait none
What a firewall on the test server looks like, to a copy and to the doctor:
  tcpcopy lab --break input-drop`,
		Long: `
Network namespaces on this machine are the hosts: the clients, the production server, the test
server and, if there is one, the intercept's host. Every request carries its number and a checksum.
At the end a table compares what production and the test server received. The exit code is 0 only
if no request is missing, doubled, out of order, damaged or early.` +
			scenarioList(p.scenarios) + faultList(),
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); at != 0 && len(args) > 0 {
				return noArguments(cmd, args)
			}
			return nil
		},
	}
	options := config.NewLabOptions(cmd.Flags(), p.scenarios, lab.Protocols(),
		lab.FaultNames())
	cmd.RunE = func(_ *cobra.Command, extra []string) error {
		c, err := options.Lab(extra)
		if err != nil {
			return err
		}
		life := watchSignals(context.Background(), p.err, "", false)
		defer life.release()
		ctx, cancel := context.WithCancel(life.ctx)
		defer cancel()
		context.AfterFunc(life.ctx, cancel)
		go func() {
			select {
			case <-life.stop: // the lab removes its namespaces and ends
				cancel()
			case <-ctx.Done():
			}
		}()
		if code := p.lab(ctx, c); code != exitOK {
			return exitCode(code)
		}
		return nil
	}
	complete(cmd)
	return cmd
}

// scenarioList returns the scenarios as help shows them.
func scenarioList(all []config.Scenario) string {
	var b strings.Builder
	b.WriteString("\n\nScenarios\n")
	for _, s := range all {
		entry(&b, "  "+s.Name, 16, s.Help)
	}
	return b.String()
}

// faultList returns the faults as help shows them.
func faultList() string {
	var b strings.Builder
	b.WriteString("\nFaults, for --break\n")
	entry(&b, "", 2, strings.Join(lab.FaultNames(), ", "))
	return b.String()
}
