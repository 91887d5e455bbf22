package export

import (
	"tcpcopy/internal/account/fidelity"
	"tcpcopy/internal/core/ledger"
)

// Fidelity returns how like production's traffic the copy was until s was taken.
func (s *Snapshot) Fidelity() *fidelity.Score {
	c := &s.Counters
	in := &fidelity.Input{
		Elapsed: s.Elapsed(), Balanced: c.Check() == nil,
		Sessions:    fidelity.Share{Delivered: c.Sessions.Delivered, Lost: Lost(&c.Sessions)},
		Bytes:       fidelity.Share{Delivered: c.Bytes.Delivered, Lost: Lost(&c.Bytes)},
		Turns:       c.Turns,
		Connections: c.Connections, Copies: c.Copies, Wanted: s.Wanted,
		Forced: c.GateForced, Ungated: s.Ungated, Behind: &c.Behind, Live: s.Replay == nil,
		Area: s.Curves.Production, Apart: s.Curves.Apart,
		Cause: fidelity.Cause{
			CPU: s.busy(), KernelDrop: c.Packets.KernelDrop, Offered: c.Packets.Offered,
			AgentDrop: c.Packets.Shed + c.Packets.Lost, Tool: Ours(&c.Sessions),
			Target: theirs(&c.Sessions), Gaps: c.Sessions.Dropped[ledger.CaptureGap],
			StoodStill: s.StoodStill,
		},
	}
	if p := s.Replay; p != nil {
		in.Scheduled, in.Late, in.Cause.Paused = p.Speed > 0, &p.Late, p.Paused
	}
	return fidelity.Of(in)
}

// theirs counts what was dropped of f for what the target did, or did not do.
func theirs(f *ledger.Flow) (n uint64) {
	for _, r := range []ledger.Reason{
		ledger.TargetReset, ledger.TargetRefused, ledger.TargetClosed, ledger.TargetOut,
		ledger.GateTimeout,
		ledger.ConnectTimeout, ledger.SendTimeout, ledger.TargetUnreachable,
	} {
		n += f.Dropped[r]
	}
	return n
}
