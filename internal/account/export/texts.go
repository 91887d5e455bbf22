package export

import (
	"bufio"
	"cmp"
	"slices"
	"strconv"
	"strings"

	"tcpcopy/internal/core/ledger"
)

// TextReport is what a target said of answers that report an error.
type TextReport struct {
	Status  string `json:"status"` // the class
	Text    string `json:"text"`
	Answers uint64 `json:"answers"`
}

const (
	// textLeast is how often a text must have come to be told: one that comes once may be of one
	// request alone.
	textLeast = 3
	// summaryTexts is how many texts the summary has. maxTexts bounds those of several nodes.
	summaryTexts = 5
	maxTexts     = 64
)

// textReports returns the texts to be told, and how many answers had another.
func textReports(t *ledger.Texts) (all []TextReport, other uint64) {
	list, other := t.All(textLeast)
	for i := range list {
		all = append(all, TextReport{list[i].Class.String(), list[i].Text, list[i].Count})
	}
	return all, other
}

// addTexts adds the texts of another node's report.
func (p *ProtoReport) addTexts(q *ProtoReport) {
	p.TextsOther += q.TextsOther
	for _, t := range q.Texts {
		i := slices.IndexFunc(p.Texts, func(have TextReport) bool {
			return have.Status == t.Status && have.Text == t.Text
		})
		if i >= 0 {
			p.Texts[i].Answers += t.Answers
		} else {
			p.Texts = append(p.Texts, t)
		}
	}
	slices.SortStableFunc(p.Texts, func(a, b TextReport) int {
		return cmp.Compare(b.Answers, a.Answers)
	})
	for _, t := range p.Texts[min(len(p.Texts), maxTexts):] {
		p.TextsOther += t.Answers
	}
	p.Texts = p.Texts[:min(len(p.Texts), maxTexts)]
}

// texts writes the most frequent texts.
func texts(b *bufio.Writer, t *ledger.Texts) {
	all, other := textReports(t)
	for _, t := range all[min(len(all), summaryTexts):] {
		other += t.Answers
	}
	var parts []string
	for _, t := range all[:min(len(all), summaryTexts)] {
		parts = append(parts, number(t.Answers)+" "+t.Status+" "+strconv.Quote(t.Text))
	}
	if len(parts) == 0 {
		return
	}
	if other > 0 {
		parts = append(parts, number(other)+" others")
	}
	row(b, "", "messages: %s", strings.Join(parts, ", "))
}
