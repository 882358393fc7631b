use pyo3::prelude::*; #[pymodule] fn _engine(_m:&Bound<PyModule>)->PyResult<()>{Ok(())}
