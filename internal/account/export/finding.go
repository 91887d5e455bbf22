package export

// Finding is something that is wrong with a run, or seems to be.
type Finding struct {
	Code string   `json:"code,omitempty"` // of the doctor, which tcpcopy explain explains
	Text string   `json:"text"`
	Fix  []string `json:"fix,omitempty"` // commands that mend it
}

// String returns a finding as one line, without its fix.
func (f Finding) String() string {
	if f.Code == "" {
		return f.Text
	}
	return f.Code + ": " + f.Text
}

// findings returns what was found at the start, and what the run shows now.
func findings(s *Snapshot) (all []Finding) {
	return append(append(all, s.Findings...), hints(s)...)
}
