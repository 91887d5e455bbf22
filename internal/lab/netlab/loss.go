package netlab

import (
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

const (
	lossScale    = 100_000 // rules know thousandths of a percent
	randomNumber = 1       // NFT_NG_RANDOM
	protocolTCP  = 6
)

func (l Loss) check() error {
	for _, percent := range []float64{l.ToTarget, l.FromTarget, l.ToProduction, l.FromProduction} {
		if math.IsNaN(percent) || percent < 0 || percent > 100 {
			return fmt.Errorf("set loss: %v %%, wanted 0 to 100", percent)
		}
	}
	return nil
}

// SetLoss replaces the loss of the net; it may be called at any time. Only TCP packets are lost, so
// that a lost neighbour solicitation does not stand for a second of silence.
func (n *Net) SetLoss(loss Loss) error {
	if err := loss.check(); err != nil {
		return err
	}
	return n.lan.Try(func() error { return setLoss(loss) })
}

// setLoss works in the calling thread's namespace: the library's own way in wants to go back, which
// root of a user namespace may not.
func setLoss(loss Loss) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("set loss: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return fmt.Errorf("set loss: list tables: %w", err)
	}
	for _, t := range tables {
		conn.DelTable(t) // the switch is ours alone
	}
	table := conn.AddTable(&nftables.Table{Name: "loss", Family: nftables.TableFamilyBridge})
	chain := conn.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	any := false
	for _, rule := range []struct {
		key     expr.MetaKey
		port    string
		percent float64
	}{
		{expr.MetaKeyOIFNAME, targetPort, loss.ToTarget},
		{expr.MetaKeyIIFNAME, targetPort, loss.FromTarget},
		{expr.MetaKeyOIFNAME, productionPort, loss.ToProduction},
		{expr.MetaKeyIIFNAME, productionPort, loss.FromProduction},
	} {
		below := uint32(math.Round(rule.percent / 100 * lossScale))
		if below == 0 {
			continue
		}
		any = true
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: rule.key, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: deviceName(rule.port)},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocolTCP}},
			&expr.Numgen{Register: 1, Modulus: lossScale, Type: randomNumber},
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4,
				Size: 4},
			&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(below)},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		}})
	}
	if !any {
		conn.DelTable(table) // nothing to evaluate for each packet
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set loss: %w", err)
	}
	return nil
}

// Lost counts the packets that were lost on purpose: since the last SetLoss, and on the target's
// path.
func (n *Net) Lost() (lost uint64, err error) {
	err = n.lan.Try(func() error { lost, err = countLost(); return err })
	if n.relay != nil {
		lost += n.relay.lost.Load()
	}
	return lost, err
}

func countLost() (uint64, error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, fmt.Errorf("count lost packets: %w", err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyBridge)
	if err != nil {
		return 0, fmt.Errorf("count lost packets: %w", err)
	}
	var lost uint64
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return 0, fmt.Errorf("count lost packets: %w", err)
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					lost += counter.Packets
				}
			}
		}
	}
	return lost, nil
}

// deviceName is a device's name as the kernel compares it: filled up to 16 bytes.
func deviceName(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
