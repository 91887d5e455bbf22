package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"tcpcopy/internal/way/link/key"
)

func (p *program) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "make a key that a copier and its intercepts share",
		Example: `(umask 077; tcpcopy keygen > key)
scp key assistant:
tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(p.out, key.Generate())
			return nil // a full disk is seen by the program's output
		},
	}
}
