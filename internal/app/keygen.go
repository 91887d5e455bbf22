package app

import (
	"fmt"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"tcpcopy/internal/way/link/key"
)

func (p *program) keygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "generate the key that copiers, intercepts and agents share",
		Example: `(umask 077; tcpcopy keygen > key)
scp key assistant:
tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key
A key of recordings: its file opens what record --encrypt-to encrypts to the public key in it:
  (umask 077; tcpcopy keygen --recordings > identity)`,
		Args: noArguments,
	}
	recordings := cmd.Flags().Bool("recordings", false, "generate a key of encrypted recordings, "+
		"for record --encrypt-to and replay --identity, as age-keygen does")
	cmd.RunE = func(*cobra.Command, []string) error {
		if !*recordings {
			fmt.Fprintln(p.out, key.Generate())
			return nil // program.out keeps the error of a full disk
		}
		k, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "# public key: %s\n%s\n", k.Recipient(), k)
		return nil
	}
	return cmd
}
