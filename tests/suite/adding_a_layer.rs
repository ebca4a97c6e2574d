//! The example of `docs/adding-a-layer.md` is built and run, and the page shows its code as it is.

#[path = "../../examples/soft_shrink.rs"]
mod soft_shrink;

#[test]
fn the_example_works() {
    soft_shrink::register().unwrap();
    assert_eq!(soft_shrink::run().unwrap(), [-1.5, 0.0, 0.0, 0.5]);
    assert!(soft_shrink::check().unwrap());
    assert!(soft_shrink::register().is_err(), "a name is taken once");
}

#[test]
fn the_page_shows_the_example() {
    let page = include_str!("../../docs/adding-a-layer.md");
    let code = include_str!("../../examples/soft_shrink.rs");
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        assert!(code.contains(block), "not in examples/soft_shrink.rs:\n{block}");
    }
}
