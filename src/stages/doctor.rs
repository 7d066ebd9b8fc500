//! Stage `doctor`: are the tools, the cluster and the rights there that the chosen stages need?
