use super::*;

#[test]
fn comments_are_cut_where_the_kernel_would_refuse_them() {
    assert_eq!(Userdata::comment("reserved v4").0, b"\x00\x0creserved v4\x00");
    let long = "é".repeat(200);
    let userdata = Userdata::comment(&long);
    assert!(userdata.0.len() <= 256, "{}", userdata.0.len());
    assert_eq!(userdata.as_comment().unwrap(), "é".repeat(126));
}
