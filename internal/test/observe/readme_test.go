package observe

import (
	"math"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tcpcopy/internal/account/dashboard"
	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/web"
	"tcpcopy/internal/core/ledger"
)

// picturePath is the README's picture of the page, and maxPicture how large it may be, in bytes.
const (
	picturePath = "../../../docs/img/dashboard.png"
	maxPicture  = 150 << 10
)

// day is a copier whose traffic rises and falls, after so many seconds, changed into shot.
func day(shot *export.Snapshot, seconds int) {
	shot.Via, shot.Links, shot.Agents, shot.Findings = "socket", nil, nil, nil
	shot.Wanted = 1
	shot.Counters = ledger.Counters{}
	c := &shot.Counters
	for i := range seconds {
		wave := 1 + 0.35*math.Sin(float64(i)/25) + 0.1*math.Sin(float64(i)/4)
		n := uint64(60 * wave)
		c.Sessions.Captured += n
		c.Sessions.Delivered += n
		c.Turns += 20 * n
		c.Connections, c.Copies = c.Connections+n, c.Copies+n
		c.Open = 5 * n
		for k := range 20 {
			d := time.Duration(900+40*k) * time.Microsecond
			slower := time.Duration(float64(d) * (1.25 + 0.2*wave))
			for _, a := range []*ledger.Answers{&c.Requests.Production, &c.Requests.Answers} {
				a.Answered += n
				a.Status[ledger.Classes()[1]] += n
				a.First.Note(d)
				a.Whole.Note(d)
				d = slower
			}
			c.Behind.Note(time.Duration(k*k) * time.Microsecond)
		}
	}
	c.Live = c.Open
	c.Sessions.Delivered -= c.Open
	c.Packets = ledger.Packets{Offered: 30 * c.Turns, Seen: 30 * c.Turns}
	c.Bytes = ledger.Flow{Captured: 180 * c.Turns, Delivered: 180 * c.Turns}
	shot.Targets[0].Count = ledger.Target{Begun: c.Copies, Opened: c.Copies, Live: c.Open}
}

// TestPicture checks that the README's picture is there and small. With TCPCOPY_PICTURE set it
// makes the picture again.
func TestPicture(t *testing.T) {
	if os.Getenv("TCPCOPY_PICTURE") != "" {
		s := &source{fleet: fleet.New([]string{"a"})}
		for i := range 180 {
			s.step(t, func(shot *export.Snapshot) { day(shot, i+1) })
		}
		server, err := dashboard.Listen("127.0.0.1:0", web.Access{}, s.fleet, explain)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		ctx := browser(t)
		run(t, ctx, chromedp.EmulateViewport(1160, 860))
		run(t, ctx, chromedp.Navigate("http://"+server.Addr().String()+"/"))
		await(t, ctx, `document.getElementById("state").textContent.includes("state 180")`)
		drawn(t, ctx)
		if err := os.WriteFile(picturePath, run(t, ctx, chromedp.CaptureScreenshot()),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(picturePath)
	if err != nil || info.Size() == 0 || info.Size() > maxPicture {
		t.Errorf("%v, %v: wanted at most %d bytes", info, err, maxPicture)
	}
}
