package sim
import ("testing";"time";"fmt")
func TestTmp(t *testing.T) {
	for _, rtt := range []time.Duration{100*time.Microsecond} {
	var worst time.Duration; ws := int64(0)
	for s := range int64(20) {
		tr := badNetwork(0.2,false,false,rtt,s)
		o := tr.run(false)
		if o.took > worst { worst, ws = o.took, s }
	}
	o := badNetwork(0.2,false,false,rtt,ws).run(true)
	fmt.Println(ws, o.took, o.trace.Write(t,"tmp"))
	}
}
