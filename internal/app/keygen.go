package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"tcpcopy/internal/way/link/key"
)

func (p *program) keygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen",
		Short: "generate the key that copiers, intercepts and agents share",
		Example: `(umask 077; tcpcopy keygen > key)
scp key assistant:
tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(p.out, key.Generate())
			return nil // program.out keeps the error of a full disk
		},
	}
}
